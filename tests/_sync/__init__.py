# Generated from tests/_async/__init__.py by scripts/unasync.py; edit that.

"""What users see, on real servers."""
