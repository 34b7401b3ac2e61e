"""The messages that brokers on queues give to taskiq's receiver."""

import sys
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from taskiq import AckableMessage
from taskiq.receiver import receiver

if TYPE_CHECKING:
    from typing_extensions import Self

#: global variables of taskiq's receiver, by which a read of `ack` by its code is recognized
RECEIVER = vars(receiver)

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


class Delivery:
    """One delivery of a message to a receiver; its acknowledgement function refers to it.

    Once it is garbage-collected, nothing can acknowledge the message.
    """

    __slots__ = ("is_acknowledged", "is_read", "is_received")

    def __init__(self) -> None:
        self.is_acknowledged = False
        #: whether anything has read the data
        self.is_read = False
        #: whether taskiq's receiver has begun to handle it
        self.is_received = False

    def received(self) -> None:
        """Note that taskiq's receiver begins to handle the message, in its task."""

    def dropped(self) -> None:
        """Note that nothing can acknowledge the message any more; never waits."""

    def __del__(self) -> None:
        """Call `dropped`, unless the message was acknowledged."""
        if not self.is_acknowledged:
            self.dropped()

    def __copy__(self) -> "Self":
        """Return itself: copies of a message are the same delivery."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Self":
        """Return itself: copies of a message are the same delivery."""
        return self


class WorkerMessage(AckableMessage):
    """A message that tells its delivery when taskiq's receiver begins to handle it.

    Only a read of `ack` by taskiq's own code counts. Anything else may read it without effect, or
    build another message of it.

    Args:
        data: the message.
        ack: acknowledges it, and refers to the delivery.
        delivery: the delivery. Default none: others may build messages of `type(message)`, from
            `data` and `ack`.
    """

    def __init__(self, data: bytes, ack: Acknowledge, delivery: Delivery | None = None) -> None:
        super().__init__(data=data, ack=ack)
        # A private attribute of pydantic would make each message several µs slower.
        get_attribute(self, "__dict__")["_delivery"] = delivery

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; note a read of the data, and the receiver's read of `ack`."""
        if name in ("ack", "data"):
            delivery = get_attribute(self, "__dict__").get("_delivery")
            if delivery is not None:
                if name == "data":
                    delivery.is_read = True
                elif not delivery.is_received and sys._getframe(1).f_globals is RECEIVER:
                    delivery.is_received = True
                    delivery.received()
        return get_attribute(self, name)
