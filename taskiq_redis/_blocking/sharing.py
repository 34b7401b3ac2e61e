"""How a task of a blocking broker gets its name, and how async workers get to know it."""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

from taskiq import AsyncBroker
from taskiq.brokers.shared_broker import async_shared_broker

from taskiq_redis._blocking.decor import SyncTaskiqDecoratedTask

#: what taskiq adds to the name of a function, as the task takes over the name itself
RENAMED = "__taskiq_original"


def default_name(func: Callable[..., Any]) -> str:
    """Name a task as taskiq does, so that workers find it by that name."""
    module = func.__module__
    if module == "__main__":
        # A worker imports the script, and so has another name for it.
        path = os.path.normpath(sys.argv[0]).removesuffix(".py")
        module = ".".join(path.split(os.path.sep))
    name = func.__name__
    return f"{module}:lambda_{uuid.uuid4().hex}" if name == "<lambda>" else f"{module}:{name}"


def undo_rename(func: Callable[..., Any]) -> None:
    """Give a function its own name again, if it was made a task before."""
    for attribute in ("__name__", "__qualname__"):
        name = getattr(func, attribute, "")
        if name.endswith(RENAMED):
            setattr(func, attribute, name.removesuffix(RENAMED))


def share(task: SyncTaskiqDecoratedTask[..., Any]) -> None:
    """Make a task known to all async brokers of the process, and so to workers.

    taskiq renames its function on the way, so that a process pool finds it beside the task.
    """
    shared = async_shared_broker.decorator_class(
        broker=async_shared_broker,
        task_name=task.task_name,
        original_func=task.original_func,
        labels=dict(task.labels),
        return_type=task.return_type,
    )
    known = AsyncBroker.global_task_registry.setdefault(task.task_name, shared)
    if _origin(known.original_func) == _origin(shared.original_func):
        # Its module was loaded again: the name of the old function leads to the new one by now.
        AsyncBroker.global_task_registry[task.task_name] = shared


def _origin(func: Callable[..., Any]) -> tuple[str, str]:
    return func.__module__, func.__name__
