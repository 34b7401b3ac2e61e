"""`info` and `workers` show the state of queues, and the probes of `info` fail over limits."""

import json
import sys
import time
from typing import Any

import pytest
from rich.text import Text
from taskiq import TaskiqMessage

from taskiq_redis import QueueStats
from taskiq_redis.cli.info import overview
from taskiq_redis.cli.output import show
from tests.cli.support import Commands, add_dead_letters, run, send, server_options, working
from tests.servers import Topology, client_of

single = pytest.mark.parametrize("topology", ["single"], indirect=True)


def fill(broker: Any, topology: Topology) -> None:
    """Add two messages, two delayed ones and a dead letter."""
    send(broker, "a", "b")
    send(broker, "c", "d", delay=1000)
    add_dead_letters(broker, topology, "dead")


def test_info_shows_all_states_of_a_stream(
    topology: Topology, broker: Any, command: Commands, name: str
) -> None:
    fill(broker, topology)
    send(broker, "e")
    with working(broker, 1):
        (found,) = command.json("info")["queues"]
        (group,) = found.pop("groups")
        (worker,) = group.pop("workers")
        text = command("info")
        table = command("workers")
        (listed,) = command.json("workers")["workers"]
    assert 0 <= found.pop("oldest_age") < 600
    assert 400 < found.pop("next_due") <= 1000
    assert found == {
        "queue_name": name,
        "kind": "stream",
        "waiting": 2,
        "running": 1,
        "delayed": 2,
        "dead": 1,
        "paused": False,
        "subscribers": None,
    }
    assert group == {"name": "taskiq", "lag": 2, "waiting": 2, "running": 1}
    assert worker["is_alive"]
    assert worker["running"] == 1
    assert worker["pid"] > 0
    assert {**listed, "lease_age": 0} == {
        "queue": name, "group": "taskiq", **worker, "lease_age": 0
    }  # fmt: skip
    assert name in text
    assert "1 alive" in text
    assert worker["name"] in table


@single
@pytest.mark.parametrize("mechanism", ["list"])
def test_info_shows_the_states_of_a_list(
    topology: Topology, broker: Any, command: Commands
) -> None:
    fill(broker, topology)
    (found,) = command.json("info")["queues"]
    states = (found["waiting"], found["delayed"], found["running"], found["groups"])
    assert states == (2, 2, None, [])
    assert "list" in command("info")


@single
@pytest.mark.parametrize("mechanism", ["pubsub"])
def test_info_shows_the_subscribers_of_a_channel(broker: Any, command: Commands) -> None:
    (found,) = command.json("info")["queues"]
    assert (found["kind"], found["subscribers"], found["waiting"]) == ("pubsub", 0, None)


@single
def test_probes_of_info_fail_over_their_limits(broker: Any, command: Commands) -> None:
    send(broker, "a", "b")
    command("info", "--fail-if-waiting-over", "2", "--fail-if-older-than", "10000")
    assert "2 waiting messages" in command("info", "--fail-if-waiting-over", "1", code=1)
    while command.json("info")["queues"][0]["oldest_age"] == 0:
        time.sleep(0.01)
    assert "waits for" in command("info", "--fail-if-older-than", "0", code=1)
    assert "no worker" in command("info", "--fail-if-no-worker", code=1)
    with working(broker, 1):
        command("info", "--fail-if-no-worker")


@single
@pytest.mark.parametrize(
    ("mechanism", "option"),
    [
        ("list", "--fail-if-no-worker"),
        ("list", "--fail-if-older-than=1"),
        ("pubsub", "--fail-if-older-than=1"),
        ("pubsub", "--fail-if-waiting-over=1"),
    ],
)
def test_probes_of_info_that_the_mechanism_cannot_answer_exit_with_2(
    command: Commands, option: str
) -> None:
    assert "Traceback" not in command("info", option, code=2)


@single
def test_watch_and_probes_exclude_each_other(command: Commands) -> None:
    assert "leave out" in command("info", "--watch", "1", "--fail-if-no-worker", code=2)


@single
def test_group_restricts_what_is_shown(broker: Any, command: Commands, name: str) -> None:
    send(broker, "a", "b")
    with working(broker, 1):
        command("info", "--fail-if-no-worker", "--group", "taskiq")
    assert "no consumer group 'other'" in command("info", "--group", "other", code=2)
    with working(broker, 1):
        pass


@single
def test_several_queues_are_shown_in_one_table(
    topology: Topology, broker: Any, command: Commands, name: str
) -> None:
    client_of(topology).xadd(f"{name}-2", {"data": b"x"})
    found = command.json("info", "--queue", f"{name}-2")["queues"]
    assert {each["queue_name"]: each["waiting"] for each in found} == {name: 0, f"{name}-2": 1}


@single
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_watch_repeats_until_it_is_interrupted(
    topology: Topology, broker: Any, name: str, more: list[str], monkeypatch: Any
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("taskiq_redis.cli.info.time.sleep", sleep)
    result = run("info", "--watch", "0.5", *more, "--queue", name, *server_options(topology))
    assert (result.exit_code, pauses) == (0, [0.5] * 3)
    if more:
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        assert [each["queues"][0]["queue_name"] for each in lines] == [name] * 3
    else:
        assert result.output.count("Queues") == 3


@single
def test_message_that_is_delayed_for_ever_is_never_due(
    topology: Topology, command: Commands, name: str
) -> None:
    client_of(topology).zadd(f"{{{name}}}:delayed", {"x": float("inf")})
    (found,) = command.json("info")["queues"]
    assert (found["delayed"], found["next_due"]) == (1, None)
    assert "never" in command("info")


@single
def test_numbers_that_json_does_not_have_are_null(broker: Any, command: Commands) -> None:
    message = broker.formatter.dumps(
        TaskiqMessage(task_id="a", task_name="t", labels={}, args=["number"], kwargs={})
    )
    message.message = message.message.replace(b'"number"', b"NaN, 1e999")
    broker.kick(message)
    (found,) = command.lines("waiting", "list", "--args")
    assert found["args"] == [None, None]


def test_headers_and_numbers_are_whole_on_a_narrow_terminal(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-name-that-is-longer-than-others"
    stats = QueueStats(queue_name=name, kind="stream", waiting=1_234_567, oldest_age=3599.0)
    show(*overview([stats]))
    lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    headers = "Queue Kind State Waiting Oldest Running Delayed Next due Dead"
    assert lines[2].split() == headers.split()
    assert "stream  active  1,234,567  59 min 59 s" in lines[4]
    parts = [line[1:11].strip() for line in lines[4:]]
    assert "".join(parts) == name


@single
def test_names_of_others_are_escaped(topology: Topology, broker: Any, command: Commands) -> None:
    send(broker, "a\x1b[31m\u202e", task="[bold red]\x07evil")
    group = "[red]\x1b]0;group\x07"
    client_of(topology).xgroup_create(broker.queue_name, group, "0")
    output = command("waiting", "list") + command("info")
    assert not {"\x1b", "\x07", "\u202e"} & set(output)
    assert r"a\x1b[31m\u202e" in output
    assert r"[bold red]\x07evil" in output
    assert r"[red]\x1b]0;group\x07" in output
