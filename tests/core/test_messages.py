"""The message that taskiq's receiver gets."""

import copy
import gc
from collections.abc import Callable

import pytest
from taskiq import AckableMessage
from taskiq.receiver import receiver

from taskiq_redis._core.messages import Delivery, WorkerMessage


class Recorded(Delivery):
    """A delivery that records what it is told."""

    __slots__ = ("calls",)

    def __init__(self, calls: list[str]) -> None:
        super().__init__()
        self.calls = calls

    def received(self) -> None:
        self.calls.append("received")

    def dropped(self) -> None:
        self.calls.append(f"dropped, read: {self.is_read}")

    def acknowledge(self) -> None:
        self.calls.append("acknowledged")
        self.is_acknowledged = True


def message_with(calls: list[str]) -> WorkerMessage:
    delivery = Recorded(calls)
    return WorkerMessage(b"a", delivery.acknowledge, delivery)


def call(message: AckableMessage) -> None:
    """Acknowledge, as a function does that somebody wraps around `ack`."""
    message.ack()


def receive(message: AckableMessage) -> object:
    """Read `ack` in code of taskiq's receiver."""
    return eval("message.ack", vars(receiver), {"message": message})


def test_receiver_is_noticed_by_its_first_read_of_ack() -> None:
    calls: list[str] = []
    message = message_with(calls)
    assert isinstance(message, AckableMessage)
    receive(message)
    assert receive(message) is message.ack
    assert calls == ["received"]
    message.ack()
    message.ack()
    assert calls == ["received", "acknowledged", "acknowledged"]
    del message
    gc.collect()
    assert calls[3:] == []


@pytest.mark.parametrize(
    "look",
    [
        lambda message: hasattr(message, "ack"),
        lambda message: bool(message.ack),
        lambda message: getattr(message, "ack", None),
        repr,
        lambda message: message.model_dump(),
        lambda message: message == copy.copy(message),
        dict,
    ],
)
def test_code_that_looks_at_ack_is_no_receiver(look: Callable[[AckableMessage], object]) -> None:
    calls: list[str] = []
    message = message_with(calls)
    look(message)
    gc.collect()
    assert calls == []


@pytest.mark.parametrize(
    "rebuild",
    [
        lambda message: AckableMessage(data=message.data, ack=message.ack),
        lambda message: AckableMessage(**message.model_dump()),
        lambda message: message.model_copy(update={"data": b"b"}),
        copy.copy,
        copy.deepcopy,
        lambda message: message.model_copy(deep=True),
        lambda message: type(message)(data=b"b", ack=message.ack),
        lambda message: type(message).model_validate({"data": b"b", "ack": message.ack}),
        lambda message: message.ack,
        lambda message: AckableMessage(data=b"", ack=lambda: call(message)),
    ],
)
def test_message_is_not_dropped_while_its_ack_is_referred_to(
    rebuild: Callable[[AckableMessage], object],
) -> None:
    calls: list[str] = []
    kept = rebuild(message_with(calls))
    gc.collect()
    assert calls == []
    del kept
    gc.collect()
    assert len(calls) == 1
    assert calls[0].startswith("dropped")


@pytest.mark.parametrize("read", [False, True])
def test_dropped_message_tells_whether_it_was_read(read: bool) -> None:
    calls: list[str] = []
    message = message_with(calls)
    if read:
        assert message.data == b"a"
    del message
    gc.collect()
    assert calls == [f"dropped, read: {read}"]
