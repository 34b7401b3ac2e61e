"""Log lines that users see once in each process."""

import logging
import sys
from pathlib import PurePath
from types import FrameType
from typing import Any

from taskiq_redis._core.unknown_tasks import DEFAULT_QUEUE

logger = logging.getLogger("taskiq_redis")

#: maximum number of lines, since others determine the names of tasks that are unknown here
MAX_LINES = 1000
_logged: set[str] = set()


def warn_once(message: str, *args: object) -> None:
    """Log a warning, unless this process has logged the same one.

    Args:
        message: format of the message.
        args: its arguments.
    """
    line = message % args
    if line not in _logged and len(_logged) < MAX_LINES:
        _logged.add(line)
        logger.warning("%s", line)


#: whether blocking calls on the thread of an event loop have been noticed
_seen_in_loop = False


def warn_of_running_loop() -> None:
    """Warn once that a blocking call runs on the thread of a running event loop."""
    global _seen_in_loop  # noqa: PLW0603 - a lookup would cost more, in each further call
    if _seen_in_loop:
        return
    _seen_in_loop = True
    frame = sys._getframe(1)
    while frame.f_back is not None and _module(frame).startswith("taskiq_redis."):
        frame = frame.f_back
    logger.warning(
        "A blocking call of taskiq_redis in %s, line %d, runs on the thread of an event loop, and "
        "stops all its tasks meanwhile. Use the async class there, or `asyncio.to_thread`. Further "
        "calls are not logged.",
        PurePath(frame.f_code.co_filename).name,
        frame.f_lineno,
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def warn_of_unknown_task(task_name: str, outcome: str, queue_name: str, server: str) -> None:
    """Warn of a task that this worker doesn't know.

    Args:
        task_name: name of the task.
        outcome: what becomes of its messages.
        queue_name: queue that the worker listens to.
        server: description of the server.
    """
    is_default = " That is the default name." * (queue_name == DEFAULT_QUEUE)
    warn_once(
        "The task %r is not declared in this worker, so %s. Import its module in the worker. If "
        "another project sent it, both use the queue %r on %s.%s Give each project a `queue_name` "
        "of its own.",
        task_name[:200],
        outcome,
        queue_name,
        server,
        is_default,
    )


def warn_of_endless_results(result_backend: Any) -> None:
    """Warn that the results of a worker never expire.

    Args:
        result_backend: where it stores results; one of another package is ignored.
    """
    times = [getattr(result_backend, name, 0) for name in ("result_ex_time", "result_px_time")]
    if times == [None, None]:
        warn_once(
            "Results of %r never expire: Redis keeps %s until its memory is full. Pass "
            "`result_ex_time`, such as 86400 for a day.",
            result_backend,
            "all results" if result_backend.keep_results else "each result that nobody reads",
        )
