"""The message for taskiq's receiver."""

from taskiq import AckableMessage

from taskiq_redis._core.messages import WorkerMessage


def test_reading_ack_calls_on_receive() -> None:
    calls: list[str] = []

    def acknowledge() -> None:
        calls.append("acknowledged")

    message = WorkerMessage(b"a", acknowledge, lambda: calls.append("received"))
    assert isinstance(message, AckableMessage)
    assert message.data == b"a"
    assert calls == []
    assert message.ack is acknowledge
    message.ack()
    assert calls == ["received", "received", "acknowledged"]
