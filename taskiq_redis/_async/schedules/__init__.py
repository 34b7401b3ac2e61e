"""Schedule sources: with one key per schedule, or indexed by the minute of the due time."""
