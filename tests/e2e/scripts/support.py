"""Helpers for the scripts."""

import sys
import threading


def pause(*words: object) -> None:
    """Print words and the names of other threads, and wait until the test continues."""
    others = [thread.name for thread in threading.enumerate()]
    others.remove("MainThread")
    print("pause:", *words, *others, flush=True)
    sys.stdin.readline()
