"""Where schedules are kept: one key each, or indexed by the minute in which they are due."""
