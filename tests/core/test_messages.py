"""The message that taskiq's receiver gets."""

import gc

from taskiq import AckableMessage

from taskiq_redis._core.messages import WorkerMessage


def message_with(calls: list[str]) -> WorkerMessage:
    return WorkerMessage(
        b"a",
        lambda: calls.append("acknowledged"),
        lambda: calls.append("received"),
        lambda: calls.append("discarded"),
    )


def test_first_read_of_ack_reports_that_the_receiver_has_begun() -> None:
    calls: list[str] = []
    message = message_with(calls)
    assert isinstance(message, AckableMessage)
    assert message.data == b"a"
    assert calls == []
    message.ack()
    message.ack()
    assert calls == ["received", "acknowledged", "acknowledged"]
    del message
    gc.collect()
    assert "discarded" not in calls


def test_message_whose_ack_was_not_read_is_discarded() -> None:
    calls: list[str] = []
    message = message_with(calls)
    del message
    gc.collect()
    assert calls == ["discarded"]
