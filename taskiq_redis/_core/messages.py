"""The message that a stream broker gives to taskiq's receiver."""

from collections.abc import Awaitable, Callable
from typing import Any

from taskiq import AckableMessage

Acknowledge = Callable[[], Awaitable[None] | None]


class WorkerMessage(AckableMessage):
    """A message that calls a function when taskiq's receiver begins to handle it.

    The receiver's task starts by reading the attribute `ack`. The function runs in that task, so it
    can add a callback for the end of the task.

    Args:
        data: the message.
        ack: acknowledges it.
        on_receive: called once, in the receiver's task.
        on_discard: called if the message is garbage-collected before, as prefetched messages are
            when the receiver is cancelled. It must not wait.
    """

    def __init__(
        self,
        data: bytes,
        ack: Acknowledge,
        on_receive: Callable[[], None],
        on_discard: Callable[[], None],
    ) -> None:
        super().__init__(data=data, ack=ack)
        # A private attribute of pydantic would make each message several µs slower.
        vars(self)["_callbacks"] = (on_receive, on_discard)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; for `ack`, call `on_receive` before."""
        if name == "ack":
            callbacks = vars(self).pop("_callbacks", None)
            if callbacks is not None:
                callbacks[0]()
        return super().__getattribute__(name)

    def __del__(self) -> None:
        """Call `on_discard`, if nothing has read `ack`."""
        callbacks = vars(self).pop("_callbacks", None)
        if callbacks is not None:
            callbacks[1]()
