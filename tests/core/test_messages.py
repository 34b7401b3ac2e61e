"""Messages that let go of what acknowledges them."""

import gc
import weakref

import pytest

from taskiq_redis._core.messages import WorkerMessage


def message_of(calls: list[str]) -> tuple[WorkerMessage, "weakref.ref[object]"]:
    def acknowledge() -> None:
        calls.append("acknowledged")

    return WorkerMessage(data=b"a", ack=acknowledge), weakref.ref(acknowledge)


def test_a_message_keeps_what_nobody_has_asked_for() -> None:
    calls: list[str] = []
    message, kept = message_of(calls)
    gc.collect()
    assert kept() is not None
    assert message.data == b"a"
    message.ack()
    assert calls == ["acknowledged"]


def test_who_asks_first_keeps_it() -> None:
    calls: list[str] = []
    message, kept = message_of(calls)
    acknowledge = message.ack
    gc.collect()
    assert kept() is acknowledge
    # It can be called by way of the message as long as somebody has it.
    message.ack()
    assert calls == ["acknowledged"]
    del acknowledge
    gc.collect()
    assert kept() is None
    with pytest.raises(RuntimeError, match="given back"):
        message.ack()


class Slotted:
    """Can be called, and not be watched."""

    __slots__ = ()

    def __call__(self) -> None:
        """Do nothing that matters."""


def test_what_cannot_be_watched_is_kept() -> None:
    message = WorkerMessage(data=b"a", ack=Slotted())
    assert isinstance(message.ack, Slotted)
    assert isinstance(message.ack, Slotted)
