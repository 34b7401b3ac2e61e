"""Whatever is stored, reading it ends in bounded time and memory."""

import subprocess
import sys

from tests.core import fuzzing


def test_readers_survive_any_bytes() -> None:
    child = subprocess.run(
        [sys.executable, "-m", fuzzing.__name__],
        capture_output=True,
        text=True,
        check=False,
    )
    # A negative return code is the signal that ended it: SIGSEGV, or SIGALRM after a long time.
    assert child.returncode == 0, child.stdout + child.stderr[-5000:]
    assert child.stdout.split() == [read.__name__ for read in fuzzing.READERS]
