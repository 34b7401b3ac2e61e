# Generated from tests/_async/__init__.py by scripts/unasync.py; edit that.

"""Tests of the public behaviour, on real servers."""
