"""What the scripts use."""

import sys
import threading


def pause(word: str) -> None:
    """Say a word and which other threads there are, and wait until the test has looked around."""
    others = [thread.name for thread in threading.enumerate()]
    others.remove("MainThread")
    print(word, *others, flush=True)
    sys.stdin.read()
