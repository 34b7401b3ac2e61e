"""Messages are listed without their arguments, canceled, requeued and deleted."""

from typing import Any

import pytest

from tests.cli.support import Commands, add_dead_letters, send, working
from tests.leaks import ARGUMENT
from tests.servers import Topology, client_of

single = pytest.mark.parametrize("topology", ["single"], indirect=True)
both = pytest.mark.parametrize("mechanism", ["stream", "list"])


@single
@both
def test_waiting_and_delayed_messages_are_listed(broker: Any, command: Commands) -> None:
    send(broker, "a", "b")
    send(broker, "c", task="other")
    send(broker, "d", delay=1000)
    found = command.lines("waiting", "list")
    assert [each["task_id"] for each in found] == ["a", "b", "c"]
    assert found[0].keys() == {
        "queue_name", "id", "task_id", "task_name", "since", "due", "deliveries", "owner", "problem"
    }  # fmt: skip
    assert [each["task_id"] for each in command.lines("waiting", "list", "--task", "other")] == [
        "c"
    ]
    (delayed,) = command.lines("delayed", "list")
    assert (delayed["task_id"], delayed["due"] is None) == ("d", False)
    limited = command("waiting", "list", "--limit", "2")
    assert "more than 2" in limited
    assert "other" not in limited
    assert ARGUMENT not in limited
    assert f"'{ARGUMENT}'" in command("waiting", "list", "--args")
    assert command.lines("delayed", "list", "--args")[0]["args"] == [ARGUMENT]


@single
def test_running_messages_are_listed_with_their_worker(broker: Any, command: Commands) -> None:
    send(broker, "a", "b")
    with working(broker, 1):
        (found,) = command.lines("running", "list")
        (worker,) = command.json("workers")["workers"]
        assert (found["task_id"], found["deliveries"]) == ("a", 1)
        assert found["owner"] == worker["name"]
        assert worker["name"] in command("running", "list")


@single
@pytest.mark.parametrize("mechanism", ["list"])
def test_running_messages_of_a_list_are_refused(command: Commands) -> None:
    assert "doesn't know its running messages" in command("running", "list", code=2)


@single
@both
def test_delayed_message_is_canceled(broker: Any, command: Commands) -> None:
    send(broker, "a", "b", delay=1000)
    assert "--yes" in command("delayed", "cancel", "a", code=2)
    assert "Canceled a" in command("delayed", "cancel", "a", "--yes")
    assert "isn't delayed" in command("delayed", "cancel", "a", "--yes", code=1)
    assert [each["task_id"] for each in command.lines("delayed", "list")] == ["b"]
    assert "TASK_ID" in command("delayed", "cancel", "--yes", code=2)


def test_dead_letters_are_listed_shown_requeued_and_purged(
    topology: Topology, broker: Any, command: Commands
) -> None:
    add_dead_letters(broker, topology, "a", "b", "c", "d")
    found = command.lines("dead", "list")
    assert [(each["task_id"], each["reason"]) for each in found] == [
        (task_id, "a test") for task_id in "abcd"
    ]
    ids = [each["id"] for each in found]
    assert "a test" in command("dead", "list")
    assert command.json("dead", "show", "b")["id"] == ids[1]
    shown = command("dead", "show", ids[1])
    assert "somebody" in shown
    assert ARGUMENT not in shown
    assert ARGUMENT in command("dead", "show", ids[1], "--args")
    assert "no dead letter" in command("dead", "show", "missing", code=1)
    assert "Deleted 1 dead letter." in command("dead", "purge", ids[0], "--yes")
    assert "Requeued 1 dead letter." in command("dead", "requeue", ids[1])
    assert "Requeued 0" in command("dead", "requeue", ids[1], code=1)
    assert "Requeued 2 dead letters." in command("dead", "requeue", "--all", "--yes")
    assert [each["task_id"] for each in command.lines("waiting", "list")] == ["b", "c", "d"]


@single
def test_dead_letters_are_chosen_by_task(
    topology: Topology, broker: Any, command: Commands
) -> None:
    add_dead_letters(broker, topology, "a", "b")
    add_dead_letters(broker, topology, "c", task="other")
    assert "Requeued 1 " in command("dead", "requeue", "--task", "other", "--yes")
    assert "Deleted 2 " in command("dead", "purge", "--task", "note", "--yes")
    assert "Deleted 0 " in command("dead", "purge", "--task", "note", "--yes", code=1)


@single
@pytest.mark.parametrize("words", [["requeue"], ["purge"], ["requeue", "--all", "1-0"]])
def test_dead_letters_have_to_be_chosen(command: Commands, words: list[str]) -> None:
    assert "one of the three" in command("dead", *words, code=2)


@single
def test_unreadable_messages_are_listed(topology: Topology, broker: Any, command: Commands) -> None:
    client_of(topology).xadd(broker.queue_name, {"data": b"\x1b{"})
    (found,) = command.lines("waiting", "list")
    assert found["task_id"] is None
    assert found["problem"]
    assert "unreadable" in command("waiting", "list")
