"""Programs of 1.2.4 and ours on one Redis: everything runs once, and everybody reads results."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any

import pytest
from taskiq.formatters.json_formatter import JSONFormatter

from tests._async.support import on_all_nodes
from tests.compat.members import TWINS, Crew, Peers, where
from tests.servers import Topology, client_of, keys_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

EVERYBODY = tuple(TWINS)
#: kinds of servers for which 1.2.4 has a class that publishes
WITH_PUBSUB = ["single", "sentinel"]
#: s; long enough that others come along meanwhile
A_MOMENT = 0.1


def in_turn(peers: Peers, function: str, calls: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Let several peers do something at the same time, and return what they return."""
    for member, arguments in calls.items():
        peers[member].ask(function, **arguments)
    return {member: peers[member].hear() for member in calls}


def numbers_for_all(numbers: Iterator[int]) -> dict[str, list[int]]:
    """Give a few numbers to each producer."""
    return {member: [next(numbers) for _ in range(6)] for member in EVERYBODY}


@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_one_queue_is_shared_by_all(
    topology: Topology, name: str, crew: Crew, peers: Peers, mechanism: str
) -> None:
    for member in EVERYBODY:
        crew.worker(member, mechanism)
    numbers, results, met = count(), dict[str, Any](), set[tuple[str, str]]()
    # Until each worker has served each producer; who gets a task is nobody's choice.
    while len(met) < len(EVERYBODY) ** 2:
        given = numbers_for_all(numbers)
        common = {"where": where(topology), "mechanism": mechanism, "name": name}
        answers = in_turn(
            peers,
            "work",
            {
                member: {**common, "numbers": given[member], "seconds": A_MOMENT}
                for member in EVERYBODY
            },
        )
        for member, answer in answers.items():
            assert [result["number"] for result in answer.values()] == given[member]
            met |= {(member, result["by"]) for result in answer.values()}
            results |= answer
        assert len(results) < 1000, f"some never meet: {met}"
    for member in EVERYBODY:
        read = peers[member].call("read", where=where(topology), name=name, task_ids=list(results))
        assert read == results
    ran_once = {(result["number"], result["by"]): 1 for result in results.values()}
    assert crew.ran == ran_once
    check_queue(topology, name, mechanism, len(results))


def check_queue(topology: Topology, name: str, mechanism: str, sent: int) -> None:
    """Fail if something is left to do."""
    client = client_of(topology)
    if mechanism == "list":
        assert client.llen(name) == 0
        return
    (group,) = client.xinfo_groups(name)
    # A result is stored before its message is acknowledged.
    wait_until(lambda: client.xinfo_groups(name)[0]["pending"] == 0)
    assert group["entries-read"] in {None, sent}


@pytest.mark.parametrize("topology", WITH_PUBSUB, indirect=True)
def test_what_is_published_reaches_all(
    topology: Topology, name: str, crew: Crew, peers: Peers
) -> None:
    for member in EVERYBODY:
        crew.worker(member, "pubsub")
    wait_until(lambda: subscribers(topology, name) == len(EVERYBODY))
    given = numbers_for_all(count())
    common = {"where": where(topology), "mechanism": "pubsub", "name": name}
    answers = in_turn(
        peers, "work", {member: {**common, "numbers": given[member]} for member in EVERYBODY}
    )
    for member, answer in answers.items():
        assert [result["number"] for result in answer.values()] == given[member]
    expected = {
        (number, worker): 1
        for numbers in given.values()
        for number in numbers
        for worker in EVERYBODY
    }
    wait_until(lambda: crew.ran.keys() == expected.keys())
    assert crew.ran == expected


def subscribers(topology: Topology, channel: str) -> int:
    """Count those who listen to a channel."""
    replies = on_all_nodes(topology, lambda node: node.pubsub_numsub(channel))
    return sum(number for reply in replies for _, number in reply)


@pytest.mark.slow
def test_a_long_task_is_not_taken_from_a_worker_of_1_2_4(
    topology: Topology, name: str, crew: Crew, peers: Peers
) -> None:
    crew.worker("old", "stream")
    common = {"where": where(topology), "mechanism": "stream", "name": name}
    peers["old"].ask("work", **common, numbers=[0], seconds=30)
    wait_until(lambda: crew.ran)
    crew.worker("async", "stream")
    crew.worker("sync", "stream")
    # The others have something to do meanwhile, and then nothing.
    peers["async"].call("work", **common, numbers=[1, 2, 3], seconds=A_MOMENT)
    (result,) = peers["old"].hear().values()
    assert result == {"number": 0, "by": "old"}
    assert {number: times for (number, _), times in crew.ran.items()} == dict.fromkeys(range(4), 1)
    wait_until(lambda: client_of(topology).xinfo_groups(name)[0]["pending"] == 0)


def sent_to(topology: Topology, name: str) -> Counter[int]:
    """Return how often each schedule was sent to the list."""
    messages = [JSONFormatter().loads(data) for data in client_of(topology).lrange(name, 0, -1)]
    assert {message.task_name for message in messages} <= {"work"}
    return Counter(message.args[0] for message in messages)


def just_now() -> str:
    """Return the time, as text."""
    return datetime.now(timezone.utc).isoformat()


def long_ago() -> str:
    """Return a time at which no scheduler ran, as text."""
    return (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("topology", "source"),
    [("single", "indexed"), ("single", "keys"), ("cluster", "keys"), ("sentinel", "keys")],
    indirect=["topology"],
)
def test_schedulers_take_turns(
    topology: Topology, name: str, crew: Crew, peers: Peers, source: str
) -> None:
    common = {"where": where(topology), "mechanism": source, "name": name}
    peers["old"].call("add_schedule", **common, number=99, when={"interval": 3600})
    turns = [("old", "async"), ("async", "old"), ("sync", "old")]
    for number, (writer, scheduler) in enumerate(turns):
        peers[writer].call("add_schedule", **common, number=number, when={"time": long_ago()})
        program = crew.scheduler(scheduler, source)
        # It is deleted once it was sent.
        wait_until(lambda: sent_to(topology, name)[number])  # noqa: B023
        left = partial(keys_of, topology, f"{name}:*{number}")
        wait_until(lambda: not left())  # noqa: B023
        program.kill()
    sent = sent_to(topology, name)
    assert sent.pop(99) >= 1
    assert sent == dict.fromkeys(range(len(turns)), 1)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("source", ["indexed", "keys"])
def test_our_scheduler_finds_what_1_2_4_adds_while_it_runs(
    topology: Topology, name: str, crew: Crew, peers: Peers, source: str
) -> None:
    common = {"where": where(topology), "mechanism": source, "name": name}
    program = crew.scheduler("async", source)
    added = [{"interval": 3600}, {"time": just_now()}, {"cron": "* * * * *"}, {"time": just_now()}]
    for number, when in enumerate(added):
        peers["old"].call("add_schedule", **common, number=number, when=when)
        wait_until(lambda: sent_to(topology, name)[number])  # noqa: B023
    program.kill()
    sent = sent_to(topology, name)
    # The cron may have seen the next minute begin.
    assert sent.pop(2) >= 1
    assert sent == {0: 1, 1: 1, 3: 1}
