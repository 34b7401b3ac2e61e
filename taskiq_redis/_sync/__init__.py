# Generated from taskiq_redis/_async/__init__.py by scripts/unasync.py; edit that.

"""All that talks to Redis. Written by hand; the blocking twin is generated from it."""
