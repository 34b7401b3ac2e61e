"""Schedule sources: with one key per schedule, or indexed by due time."""
