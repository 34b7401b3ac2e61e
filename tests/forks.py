"""Run code in forked child processes."""

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any

from tests.waiting import wait_until


def in_child(call: Callable[[], Any]) -> int:
    """Call a function in a forked child; return its exit code, or the negative signal number."""
    with warnings.catch_warnings():
        # Python warns about forks of a process with threads; gunicorn does it, so it is tested.
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
        (status,) = wait_until(lambda: status_of(pid), what="the end of the child", not_yet=())
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status)


def status_of(pid: int) -> tuple[int, ...]:
    """Return a tuple with the status of an ended child, or an empty one while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return (status,) if found else ()
