"""Messages that let go of what acknowledges them."""

import gc
import weakref
from functools import partial
from typing import Any

import pytest
from taskiq import Context, InMemoryBroker, TaskiqMessage
from taskiq.acks import AckController

from taskiq_redis._core.messages import WorkerMessage, forget_context


def message_of(calls: list[str]) -> tuple[WorkerMessage, "weakref.ref[object]"]:
    def acknowledge() -> None:
        calls.append("acknowledged")

    asked = partial(calls.append, "asked")
    return WorkerMessage(b"a", acknowledge, asked), weakref.ref(acknowledge)


def test_a_message_keeps_what_nobody_has_asked_for() -> None:
    calls: list[str] = []
    message, kept = message_of(calls)
    gc.collect()
    assert kept() is not None
    assert message.data == b"a"
    message.ack()
    assert calls == ["asked", "acknowledged"]


def test_who_asks_first_keeps_it() -> None:
    calls: list[str] = []
    message, kept = message_of(calls)
    acknowledge = message.ack
    gc.collect()
    assert kept() is acknowledge
    # It can be called by way of the message as long as somebody has it.
    message.ack()
    assert calls == ["asked", "acknowledged"]
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
    message = WorkerMessage(b"a", Slotted(), lambda: None)
    assert isinstance(message.ack, Slotted)
    assert isinstance(message.ack, Slotted)


def context_of(message: WorkerMessage) -> Context:
    task = TaskiqMessage(task_id="id", task_name="name", labels={}, args=[], kwargs={})
    return Context(task, InMemoryBroker(), AckController(message.ack))


def test_the_context_that_taskiq_keeps_lets_go() -> None:
    calls: list[str] = []
    message, kept = message_of(calls)
    contexts: dict[Any, Any] = {Context: context_of(message)}
    own, others = kept(), lambda: None
    assert own is not None
    forget_context(contexts, others)
    gc.collect()
    assert kept() is own
    forget_context(contexts, own)  # type: ignore[arg-type]
    assert contexts[Context].message.task_id == "id"
    del own
    gc.collect()
    assert kept() is None
    forget_context({}, others)
