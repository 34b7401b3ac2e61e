"""The message that a stream broker gives to taskiq's receiver."""

import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from taskiq import AckableMessage
from taskiq.receiver import receiver

#: global variables of taskiq's receiver, by which a read of `ack` by its code is recognized
RECEIVER = vars(receiver)
#: for messages that were built without the constructor
NO_DELIVERY = (None, None)

# Faster than `vars` and `super`.
get_attribute = object.__getattribute__

#: whether taskiq's receiver, which handles each message in a context of its own, has found no task
#: for it. A middleware may have looked for another task, so that has to be checked.
is_task_unknown: ContextVar[bool] = ContextVar("taskiq_redis_is_task_unknown", default=False)

#: whether the task was cancelled that taskiq's receiver runs in this context. The receiver stores
#: and acknowledges that like any other failure.
is_task_cancelled: ContextVar[bool] = ContextVar("taskiq_redis_is_task_cancelled", default=False)

Acknowledge = Callable[[], Awaitable[None] | None]


def is_task_calling() -> bool:
    """Return whether a task of taskiq's receiver calls this, rather than the receiver itself."""
    return _is_running("run_task")


def is_receiver_calling() -> bool:
    """Return whether taskiq's receiver, or a middleware, calls this while it handles a message."""
    return _is_running("callback")


def _is_running(method: str) -> bool:
    """Return whether a method of taskiq's receiver has called the current function."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_globals is RECEIVER and frame.f_code.co_name == method:
            return True
        frame = frame.f_back
    return False


def _ignore() -> None:
    """Do nothing when a message is received."""


class Delivery:
    """One delivery of a message to a receiver; its acknowledgement function refers to it.

    Once it is garbage-collected, nothing can acknowledge the message.

    Args:
        on_drop: called when it is garbage-collected, unless the message was acknowledged; gets
            whether anything has read its data. It must not wait.
    """

    __slots__ = ("_on_drop", "is_acknowledged", "is_read", "is_received", "unwatch")

    def __init__(self, on_drop: Callable[[bool], None]) -> None:
        self._on_drop = on_drop
        self.is_acknowledged = False
        #: whether anything has read the data
        self.is_read = False
        #: whether taskiq's receiver has begun to handle it
        self.is_received = False
        #: prevents the call of a function at the end of the receiver's task
        self.unwatch: Callable[[], None] | None = None

    def acknowledged(self) -> None:
        """Record that the message was acknowledged."""
        self.is_acknowledged = True
        unwatch, self.unwatch = self.unwatch, None
        if unwatch is not None:
            unwatch()

    def __del__(self) -> None:
        """Call `on_drop`, unless the message was acknowledged."""
        if not self.is_acknowledged:
            self._on_drop(self.is_read)

    def __copy__(self) -> "Delivery":
        """Return itself: copies of a message are the same delivery."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Delivery":
        """Return itself: copies of a message are the same delivery."""
        return self


class WorkerMessage(AckableMessage):
    """A message that calls a function when taskiq's receiver begins to handle it.

    Only a read of `ack` by taskiq's own code counts. Anything else may read it without effect, or
    build another message of it.

    Args:
        data: the message.
        ack: acknowledges it, and refers to the delivery.
        delivery: the delivery. Default none: others may build messages of `type(message)`, from
            `data` and `ack`.
        on_receive: called once, in the task of taskiq's receiver; may return a function that
            undoes it when the message is acknowledged. Default nothing.
    """

    def __init__(
        self,
        data: bytes,
        ack: Acknowledge,
        delivery: Delivery | None = None,
        on_receive: Callable[[], Callable[[], None] | None] = _ignore,
    ) -> None:
        super().__init__(data=data, ack=ack)
        # A private attribute of pydantic would make each message several µs slower.
        get_attribute(self, "__dict__")["_delivery"] = (delivery, on_receive)

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; note a read of the data, and the receiver's read of `ack`."""
        if name in ("ack", "data"):
            values = get_attribute(self, "__dict__")
            delivery, on_receive = values.get("_delivery", NO_DELIVERY)
            if delivery is not None:
                if name == "data":
                    delivery.is_read = True
                elif not delivery.is_received and sys._getframe(1).f_globals is RECEIVER:
                    delivery.is_received = True
                    delivery.unwatch = on_receive()
        return get_attribute(self, name)
