"""Queues are paused, resumed, purged and trimmed; what deletes asks first."""

import io
import sys
from typing import Any

import pytest

from tests.cli.support import Commands, run, send, server_options
from tests.servers import Topology, client_of

single = pytest.mark.parametrize("topology", ["single"], indirect=True)
both = pytest.mark.parametrize("mechanism", ["stream", "list"])


@single
@both
def test_queue_is_paused_and_resumed(broker: Any, command: Commands, name: str) -> None:
    assert command("pause") == f"Paused '{name}'.\n"
    assert command.json("info")["queues"][0]["paused"]
    assert "paused" in command("info")
    assert command("resume") == f"Resumed '{name}'.\n"
    assert command("resume") == f"'{name}' was not paused.\n"
    assert not command.json("info")["queues"][0]["paused"]


@single
@both
def test_queue_is_purged(broker: Any, command: Commands, name: str) -> None:
    send(broker, "a", "b")
    send(broker, "c", delay=1000)
    assert "--yes" in command("purge", code=2)
    assert "Deleted 1 message" in command("purge", "--yes", "--no-waiting")
    assert "Deleted 2 messages" in command("purge", "--yes")
    assert "nothing to delete" in command("purge", "--no-waiting", "--no-delayed", code=2)


@single
def test_destructive_command_asks_on_a_terminal(
    topology: Topology, broker: Any, name: str, monkeypatch: Any
) -> None:
    send(broker, "a")
    words = ("purge", "--queue", name, *server_options(topology))
    monkeypatch.setattr("taskiq_redis.cli.output.sys", Terminal())
    declined = run(*words, input="n\n")
    assert (declined.exit_code, "Nothing was changed." in declined.output) == (1, True)
    assert run(*words, input="y\n").exit_code == 0
    assert broker.stats().waiting == 0


class Terminal:
    """The module `sys`, with a terminal as standard input."""

    class stdin:  # noqa: N801
        @staticmethod
        def isatty() -> bool:
            return True

    @property
    def stdout(self) -> Any:
        return sys.stdout

    @property
    def stderr(self) -> Any:
        return sys.stderr


def test_progress_is_shown_on_a_terminal_only(monkeypatch: Any) -> None:
    from taskiq_redis.cli import output

    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress_bar("Doing [it]\x07", 10) as show:
        show(7)
    assert "Doing [it]\\x07" in shown.getvalue()
    assert "7/10" in shown.getvalue()


def test_work_is_watched_until_it_ends(monkeypatch: Any) -> None:
    import threading

    from taskiq_redis.cli import output

    seen = threading.Event()
    counts = iter([10, 4])

    def left() -> int:
        count = next(counts, 0)
        if count != 10:
            seen.set()
        return count

    monkeypatch.setattr(output, "PAUSE", 0.01)
    assert output.watched("Working", seen.wait, left)
    with pytest.raises(TimeoutError):
        output.watched("Working", raise_timeout, lambda: 1)


def raise_timeout() -> None:
    raise TimeoutError


@single
def test_stream_is_trimmed(topology: Topology, broker: Any, command: Commands, name: str) -> None:
    client = client_of(topology)
    for _ in range(3):
        client.xadd(name, {"data": b"x"})
    client.xgroup_create(name, "taskiq", "$")
    assert "--yes" in command("trim", code=2)
    assert "Deleted 3 entries" in command("trim", "--yes")
    assert client.xlen(name) == 0


@single
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_only_streams_can_be_trimmed(command: Commands) -> None:
    assert "needs no trimming" in command("trim", "--yes", code=2)


@single
@pytest.mark.parametrize("mechanism", ["pubsub"])
@pytest.mark.parametrize("words", [["pause"], ["resume"], ["purge", "--yes"], ["dead", "list"]])
def test_channels_cannot_be_controlled(command: Commands, words: list[str]) -> None:
    assert "A SyncPubSubBroker" in command(*words, code=2)
