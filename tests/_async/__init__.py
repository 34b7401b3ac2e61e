"""Tests of the public behaviour, on real servers."""
