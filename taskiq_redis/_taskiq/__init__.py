"""Additions to taskiq: blocking base classes; delayed and bulk sending, async and blocking."""
