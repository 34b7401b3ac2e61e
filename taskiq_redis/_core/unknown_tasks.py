"""What becomes of a message whose task no worker knows."""

from taskiq_redis._core.texts import quote

#: default of `queue_name`, which other projects may use as well
DEFAULT_QUEUE = "taskiq"


def describe_fate(timeout: float) -> str:
    """Return what becomes of the messages of unknown tasks, for log messages.

    Args:
        timeout: s; how long other workers may take them.
    """
    return (
        "its messages go back to the queue for other workers, and become dead letters if none "
        f"knows it for {timeout:g} s"
    )


def why_unknown(task_name: str, timeout: float, queue_name: str) -> str:
    """Return the reason of a dead letter, which completes "it is not run, because".

    Args:
        task_name: name of the task.
        timeout: s; how long no worker knew it.
        queue_name: its queue.
    """
    note = ""
    if queue_name == DEFAULT_QUEUE:
        note = f"; {DEFAULT_QUEUE!r} is the default name of a queue, which another project may use"
    return f"no worker knew the task {quote(task_name)} for {timeout:g} s{note}"
