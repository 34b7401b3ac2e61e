"""Name the tasks that blocking brokers declare, and register them for async workers."""

import os
import sys
import uuid
from collections.abc import Callable
from copy import copy
from typing import Any

from taskiq import AsyncBroker, AsyncTaskiqDecoratedTask
from taskiq.brokers.shared_broker import async_shared_broker

#: suffix that taskiq adds to the name of a function when it makes a task of it
RENAMED = "__taskiq_original"
#: attribute of shared tasks: the blocking broker that declares them
_DECLARED_BY = "_declared_by"


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
    broker: object,
    task_name: str,
    func: Callable[..., Any],
    labels: dict[str, Any],
    return_type: Any,
) -> None:
    """Register a task with all async brokers of the process, and so with workers.

    taskiq renames the function, so that a process pool can import it next to its task.

    Args:
        broker: blocking broker that declares the task.
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
    vars(shared)[_DECLARED_BY] = broker
    known = AsyncBroker.global_task_registry.setdefault(task_name, shared)
    if _origin(known.original_func) == _origin(shared.original_func):
        # The module was reloaded: importing the old function by its name finds the new one.
        AsyncBroker.global_task_registry[task_name] = shared


def own_task(
    task: AsyncTaskiqDecoratedTask[Any, Any], broker: Any
) -> AsyncTaskiqDecoratedTask[Any, Any] | None:
    """Return a task of a blocking counterpart of a broker as a task of the broker, or None.

    Args:
        task: a task.
        broker: an async broker. Its twins are counterparts, and so are other blocking brokers that
            send to the same queue.
    """
    declared_by = vars(task).get(_DECLARED_BY)
    if declared_by is None or _place(declared_by) is None or _place(declared_by) != _place(broker):
        return None
    own = copy(task)
    own.broker = broker
    return own


def _place(broker: Any) -> tuple[str, str] | None:
    """Return the server and the queue of a broker of this package; None for any other."""
    connection = getattr(broker, "_connection", None)
    return None if connection is None else (str(connection.server), broker.queue_name)


def _origin(func: Callable[..., Any]) -> tuple[str, str]:
    return func.__module__, func.__name__
