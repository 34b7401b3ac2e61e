"""Subclasses and uses of private names that were written for 1.2.4 keep working.

Each class is taken from a published program. 1.2.4 has no blocking classes, so there are no
subclasses of them.
"""
