# Generated from taskiq_redis/_async/schedules/__init__.py by scripts/unasync.py; edit that.

"""Schedule sources: with one key per schedule, or indexed by due time."""
