"""Messages that let go of what acknowledges them."""

import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pydantic import PrivateAttr
from taskiq import AckableMessage, Context
from taskiq.acks import AckController

Acknowledge = Callable[[], Awaitable[None] | None]


class WorkerMessage(AckableMessage):
    """A message for taskiq's receiver, which asks it once for what acknowledges it.

    After that, the receiver and the task have it, and nobody else: taskiq keeps a message for
    longer than the task runs. So it shows when nobody can acknowledge any more.
    """

    #: called when the receiver asks
    _asked: Callable[[], None] = PrivateAttr()

    def __init__(self, data: bytes, ack: Acknowledge, asked: Callable[[], None]) -> None:
        super().__init__(data=data, ack=ack)
        self._asked = asked

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; `ack` is kept by whoever got it first."""
        value = super().__getattribute__(name)
        if name == "ack" and not isinstance(value, _Forward):
            # Not everything that can be called can be watched.
            with suppress(TypeError):
                vars(self)["ack"] = _Forward(value)
            self._asked()
        return value


class _Forward:
    """Calls what somebody else keeps."""

    def __init__(self, acknowledge: Acknowledge) -> None:
        self._kept = weakref.ref(acknowledge)

    def __call__(self) -> Awaitable[None] | None:
        acknowledge = self._kept()
        if acknowledge is None:
            raise RuntimeError("This message was given back: nobody could acknowledge it any more.")
        return acknowledge()


def forget_context(contexts: dict[Any, Any], acknowledge: Acknowledge) -> None:
    """Let go of what acknowledges, where only taskiq has it, for the next task to overwrite.

    Args:
        contexts: the dependencies of a broker's tasks, with the context of the last one.
        acknowledge: what acknowledged its message, if it is still that one.
    """
    context = contexts.get(Context)
    controller = getattr(context, "_ack_controller", None)
    if context is not None and getattr(controller, "_ack", None) is acknowledge:
        forward = AckController(_Forward(acknowledge))
        contexts[Context] = Context(context.message, context.broker, forward)
