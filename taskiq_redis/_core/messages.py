"""The message that taskiq's receiver gets from a stream broker."""

from collections.abc import Awaitable, Callable
from typing import Any

from taskiq import AckableMessage

Acknowledge = Callable[[], Awaitable[None] | None]


class WorkerMessage(AckableMessage):
    """A message that notices when taskiq's receiver begins to handle it.

    The receiver's task starts by reading the attribute `ack`, so code that runs then can find out
    when that task is done.

    Args:
        data: the message.
        ack: acknowledges it.
        on_receive: called in the receiver's task.
    """

    def __init__(self, data: bytes, ack: Acknowledge, on_receive: Callable[[], None]) -> None:
        super().__init__(data=data, ack=ack)
        # A private attribute of pydantic would make each message several µs slower.
        vars(self)["_on_receive"] = on_receive

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; for `ack`, call `on_receive` before."""
        if name == "ack":
            vars(self)["_on_receive"]()
        return super().__getattribute__(name)
