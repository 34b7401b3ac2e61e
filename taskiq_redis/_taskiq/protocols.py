"""The parts of a broker that tasks and kickers use."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from taskiq import BrokerMessage, TaskiqMiddleware
from taskiq.abc.formatter import TaskiqFormatter

from taskiq_redis._taskiq.result_backend import SyncResultBackend


@runtime_checkable
class BulkBroker(Protocol):
    """An async broker that sends several messages at once; taskiq's own brokers don't."""

    async def kick_many(self, messages: Sequence[BrokerMessage]) -> None:
        """Send messages, in as few round trips as possible.

        Args:
            messages: formatted messages.
        """


class SyncSender(Protocol):
    """A blocking broker, as its tasks and kickers see it."""

    middlewares: list[TaskiqMiddleware]
    formatter: TaskiqFormatter
    result_backend: SyncResultBackend[Any]
    id_generator: Callable[[], str]

    def find_task(self, task_name: str) -> Any:
        """Return the task of a name, or None.

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
