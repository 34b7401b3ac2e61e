"""The parts of a blocking broker that its tasks and kickers use."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from taskiq import BrokerMessage, TaskiqMiddleware
from taskiq.abc.formatter import TaskiqFormatter

from taskiq_redis._taskiq.result_backend import SyncResultBackend


class SyncSender(Protocol):
    """A blocking broker, as its tasks and kickers see it."""

    middlewares: list[TaskiqMiddleware]
    formatter: TaskiqFormatter
    result_backend: SyncResultBackend[Any]
    id_generator: Callable[[], str]

    def find_task(self, task_name: str) -> Any:
        """Return the task with a name, or None.

        Args:
            task_name: name of the task.
        """

    def kick(self, message: BrokerMessage) -> None:
        """Send a message.

        Args:
            message: formatted message.
        """

    def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as possible.

        Args:
            messages: formatted messages.
        """
