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
        on_receive: called once, in the receiver's task.
        on_discard: called instead if the receiver discards the message, as it does with prefetched
            messages when it is cancelled. It must not wait: the garbage collector may call it.
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
