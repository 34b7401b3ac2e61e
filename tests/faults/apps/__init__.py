"""Modules of tasks for workers that have a hard time."""
