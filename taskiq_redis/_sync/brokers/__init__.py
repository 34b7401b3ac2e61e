# Generated from taskiq_redis/_async/brokers/__init__.py by scripts/unasync.py; edit that.

"""How tasks travel: by publishing, through a list, through a stream."""
