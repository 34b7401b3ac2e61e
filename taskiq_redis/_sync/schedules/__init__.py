# Generated from taskiq_redis/_async/schedules/__init__.py by scripts/unasync.py; edit that.

"""Where schedules are kept: one key each, or indexed by the minute in which they are due."""
