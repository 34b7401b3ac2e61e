"""Messages that let go of what acknowledges them."""

import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from taskiq import AckableMessage

Acknowledge = Callable[[], Awaitable[None] | None]


class WorkerMessage(AckableMessage):
    """A message for taskiq's receiver, which asks it once for what acknowledges it.

    After that, the receiver and the task have it, and nobody else: taskiq keeps a message for
    longer than the task runs. So it shows when nobody can acknowledge any more.
    """

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; `ack` is kept by whoever got it first."""
        value = super().__getattribute__(name)
        if name == "ack" and not isinstance(value, _Forward):
            # Not everything that can be called can be watched.
            with suppress(TypeError):
                self.__dict__["ack"] = _Forward(value)
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
