"""Additions to taskiq: blocking abstractions; delayed and bulk sending for both."""
