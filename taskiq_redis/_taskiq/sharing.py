"""Name the tasks that blocking brokers declare, and register them for async workers."""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

from taskiq import AsyncBroker
from taskiq.brokers.shared_broker import async_shared_broker

#: suffix that taskiq adds to the name of a function when it makes a task of it
RENAMED = "__taskiq_original"


def default_name(func: Callable[..., Any]) -> str:
    """Return the name that taskiq gives to the task of a function, so that workers know it too."""
    module = func.__module__
    if module == "__main__":
        # A worker imports the script under the name of its file.
        path = os.path.normpath(sys.argv[0]).removesuffix(".py")
        module = ".".join(path.split(os.path.sep))
    name = func.__name__
    return f"{module}:lambda_{uuid.uuid4().hex}" if name == "<lambda>" else f"{module}:{name}"


def undo_rename(func: Callable[..., Any]) -> None:
    """Remove the suffix that taskiq added to a function's name when it was declared before."""
    for attribute in ("__name__", "__qualname__"):
        name = getattr(func, attribute, "")
        if name.endswith(RENAMED):
            setattr(func, attribute, name.removesuffix(RENAMED))


def share(
    task_name: str, func: Callable[..., Any], labels: dict[str, Any], return_type: Any
) -> None:
    """Register a task with all async brokers of the process, and so with workers.

    taskiq renames the function, so that a process pool can import it next to its task.

    Args:
        task_name: name of the task.
        func: function of the task.
        labels: labels of the task, which are copied.
        return_type: type to parse its return value into, or None.
    """
    shared = async_shared_broker.decorator_class(
        broker=async_shared_broker,
        task_name=task_name,
        original_func=func,
        labels=dict(labels),
        return_type=return_type,
    )
    known = AsyncBroker.global_task_registry.setdefault(task_name, shared)
    if _origin(known.original_func) == _origin(shared.original_func):
        # The module was reloaded: importing the old function by its name finds the new one.
        AsyncBroker.global_task_registry[task_name] = shared


def _origin(func: Callable[..., Any]) -> tuple[str, str]:
    return func.__module__, func.__name__
