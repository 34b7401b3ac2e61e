"""Labels of tasks that name a queue."""

from typing import Any

from taskiq_redis._core.checks import plain_names

#: label with the queue that a task is sent to
QUEUE_LABEL = "queue_name"


def make_queue_plain(labels: dict[str, Any]) -> None:
    """Replace a queue that is a member of an enum by its text.

    taskiq would send the member's own name, such as ``Queue.FAST``.

    Args:
        labels: labels of a task, which are changed.
    """
    queue_name = labels.get(QUEUE_LABEL)
    if queue_name is not None and type(queue_name) is not str:
        labels[QUEUE_LABEL] = plain_names(queue_name)
