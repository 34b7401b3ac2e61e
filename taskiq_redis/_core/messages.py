"""Messages that let go of what acknowledges them."""

import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from taskiq import AckableMessage, Context
from taskiq.acks import AckController

Acknowledge = Callable[[], Awaitable[None] | None]


class WorkerMessage(AckableMessage):
    """A message for taskiq's receiver, which asks it once for what acknowledges it.

    After that, the receiver and the task have it, and nobody else: taskiq keeps a message for
    longer than the task runs. So it shows when nobody can acknowledge any more.
    """

    def __init__(self, data: bytes, ack: Acknowledge, asked: Callable[[], None]) -> None:
        # Without the field `ack`, so that asking for it comes to `__getattr__`, and nothing else.
        vars(self).update(data=data, _given=(ack, asked))
        # What a model's constructor sets, which takes four times as long to find out the same.
        object.__setattr__(self, "__pydantic_fields_set__", {"data", "ack"})
        object.__setattr__(self, "__pydantic_extra__", None)
        object.__setattr__(self, "__pydantic_private__", None)

    def __getattr__(self, name: str) -> Any:
        """Return `ack`, which is kept by whoever gets it first."""
        if name != "ack":
            raise AttributeError(name)
        acknowledge, asked = vars(self).pop("_given")
        try:
            vars(self)["ack"] = _Forward(acknowledge)
        except TypeError:
            # Not everything that can be called can be watched.
            vars(self)["ack"] = acknowledge
        asked()
        return acknowledge


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
