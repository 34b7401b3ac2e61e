"""Bindings to other packages, which are installed with extras of this one."""
