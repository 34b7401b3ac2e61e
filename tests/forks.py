"""Forked children, for tests of what they inherit."""

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

from tests.waiting import wait_until


def in_child(call: Callable[[], Any]) -> int:
    """Run a call in a forked child; return the child's exit code, or the signal's, negative."""
    with warnings.catch_warnings():
        # Python warns of forks in a process with threads, which gunicorn does and these tests test.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    try:
        (status,) = wait_until(lambda: ended(pid), what="the end of the child", not_yet=())
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status)


def ended(pid: int) -> tuple[int, ...]:
    """Return the status of a child that has ended, alone in a tuple; nothing until then."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return (status,) if found else ()
