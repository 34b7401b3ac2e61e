"""What the scripts use."""

import sys
import threading


def pause(*words: object) -> None:
    """Say some words, and which other threads there are; wait until the test lets us go on."""
    others = [thread.name for thread in threading.enumerate()]
    others.remove("MainThread")
    print("pause:", *words, *others, flush=True)
    sys.stdin.readline()
