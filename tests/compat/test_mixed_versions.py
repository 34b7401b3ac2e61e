"""Programs of 1.2.4 and of this version share a server: each task runs once, all read results."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from taskiq.formatters.json_formatter import JSONFormatter

from tests._async.support import on_all_nodes
from tests._sync.support import build
from tests._sync.test_unknown_tasks import refuse
from tests.compat.peers import VARIANTS, Launcher, Peers, describe
from tests.servers import Topology, client_of, keys_of
from tests.waiting import wait_until

pytestmark = pytest.mark.full

ALL_VARIANTS = tuple(VARIANTS)
#: kinds of servers for which 1.2.4 has a pub/sub broker
WITH_PUBSUB = ["single", "sentinel"]
#: s; duration of a task, so that other workers get some, too
DURATION = 0.1


def call_all(peers: Peers, function: str, calls: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a function in several peers at the same time, and return their return values."""
    for variant, arguments in calls.items():
        peers[variant].start_call(function, **arguments)
    return {variant: peers[variant].read_reply() for variant in calls}


def numbers_for_all(numbers: Iterator[int]) -> dict[str, list[int]]:
    """Return a few numbers for each producer."""
    return {variant: [next(numbers) for _ in range(6)] for variant in ALL_VARIANTS}


@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_all_variants_share_a_queue(
    topology: Topology, name: str, launcher: Launcher, peers: Peers, mechanism: str
) -> None:
    for variant in ALL_VARIANTS:
        launcher.worker(variant, mechanism)
    numbers, results, met = count(), dict[str, Any](), set[tuple[str, str]]()
    # Repeat until each worker has run a task of each producer; Redis chooses the worker.
    while len(met) < len(ALL_VARIANTS) ** 2:
        given = numbers_for_all(numbers)
        common = {"where": describe(topology), "mechanism": mechanism, "name": name}
        answers = call_all(
            peers,
            "work",
            {
                variant: {**common, "numbers": given[variant], "seconds": DURATION}
                for variant in ALL_VARIANTS
            },
        )
        for variant, answer in answers.items():
            assert [result["number"] for result in answer.values()] == given[variant]
            met |= {(variant, result["by"]) for result in answer.values()}
            results |= answer
        assert len(results) < 1000, f"some workers never run tasks of some producers: {met}"
    for variant in ALL_VARIANTS:
        read = peers[variant].call(
            "read", where=describe(topology), name=name, task_ids=list(results)
        )
        assert read == results
    ran_once = {(result["number"], result["by"]): 1 for result in results.values()}
    assert launcher.ran == ran_once
    check_queue(topology, name, mechanism, len(results))


def check_queue(topology: Topology, name: str, mechanism: str, sent: int) -> None:
    """Fail if the queue contains unfinished messages."""
    client = client_of(topology)
    if mechanism == "list":
        assert client.llen(name) == 0
        return
    # A result is stored before its message is acknowledged.
    wait_until(lambda: client.xinfo_groups(name)[0]["pending"] == 0)
    (group,) = client.xinfo_groups(name)
    assert group["last-delivered-id"] == client.xinfo_stream(name)["last-generated-id"]
    # Redis 6.2 doesn't count them, and others may lose count.
    assert group.get("entries-read") in {None, sent}


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("mechanism", ["stream", pytest.param("list", marks=pytest.mark.slow)])
def test_failed_task_that_is_kept_can_be_run_by_1_2_4(
    topology: Topology, name: str, launcher: Launcher, mechanism: str
) -> None:
    worker = launcher.worker("async", mechanism)
    worker.expected |= {"TypeError", "ValidationError"}
    client = client_of(topology)
    with build(topology, mechanism, queue_name=name) as broker:
        broker.kicker("work").kiq(0, "no number of seconds")
        (letter,) = wait_until(lambda: list(broker.dead_letters()))
        assert letter.error.startswith("TypeError: ")
        assert worker.stop() == 0
        launcher.worker("old", mechanism)
        assert broker.requeue_dead_letters(task_name="work") == 1
        wait_until(lambda: launcher.ran == {(0, "async"): 1, (0, "old"): 1})
        # 1.2.4 acknowledges what has failed.
        if mechanism == "stream":
            wait_until(lambda: client.xinfo_groups(name)[0]["pending"] == 0)
        assert list(broker.dead_letters()) == []


@pytest.mark.parametrize("topology", WITH_PUBSUB, indirect=True)
def test_published_tasks_reach_workers_of_all_variants(
    topology: Topology, name: str, launcher: Launcher, peers: Peers
) -> None:
    for variant in ALL_VARIANTS:
        launcher.worker(variant, "pubsub")
    wait_until(lambda: subscribers(topology, name) == len(ALL_VARIANTS))
    given = numbers_for_all(count())
    common = {"where": describe(topology), "mechanism": "pubsub", "name": name}
    answers = call_all(
        peers, "work", {variant: {**common, "numbers": given[variant]} for variant in ALL_VARIANTS}
    )
    for variant, answer in answers.items():
        assert [result["number"] for result in answer.values()] == given[variant]
    expected = {
        (number, worker): 1
        for numbers in given.values()
        for number in numbers
        for worker in ALL_VARIANTS
    }
    wait_until(lambda: launcher.ran.keys() == expected.keys())
    assert launcher.ran == expected


def subscribers(topology: Topology, channel: str) -> int:
    """Return the number of subscribers of a channel on all nodes."""
    replies = on_all_nodes(topology, lambda node: node.pubsub_numsub(channel))
    return sum(number for reply in replies for _, number in reply)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_worker_of_1_2_4_runs_a_task_that_a_new_worker_refused(
    topology: Topology, name: str, launcher: Launcher, peers: Peers
) -> None:
    broker = build(topology, "stream", queue_name=name)
    broker.is_worker_process = True
    broker.kicker("work").kiq(0)
    messages = broker.listen()
    refuse(messages)
    messages.close()
    broker.shutdown()
    launcher.worker("old", "stream")
    # It claims messages of others after it has read a new one.
    common = {"where": describe(topology), "mechanism": "stream", "name": name}
    peers["old"].call("work", **common, numbers=[1])
    wait_until(lambda: launcher.ran == {(0, "old"): 1, (1, "old"): 1})
    check_queue(topology, name, "stream", 2)


@pytest.mark.slow
def test_long_task_of_1_2_4_worker_is_not_claimed(
    topology: Topology, name: str, launcher: Launcher, peers: Peers
) -> None:
    launcher.worker("old", "stream")
    common = {"where": describe(topology), "mechanism": "stream", "name": name}
    peers["old"].start_call("work", **common, numbers=[0], seconds=30)
    wait_until(lambda: launcher.ran)
    launcher.worker("async", "stream")
    launcher.worker("sync", "stream")
    # The other workers run some tasks, and then are idle.
    peers["async"].call("work", **common, numbers=[1, 2, 3], seconds=DURATION)
    (result,) = peers["old"].read_reply().values()
    assert result == {"number": 0, "by": "old"}
    assert {number: times for (number, _), times in launcher.ran.items()} == dict.fromkeys(
        range(4), 1
    )
    wait_until(lambda: client_of(topology).xinfo_groups(name)[0]["pending"] == 0)


def sent_to(topology: Topology, name: str) -> Counter[int]:
    """Return how often each schedule was sent to the list, by number."""
    messages = [JSONFormatter().loads(data) for data in client_of(topology).lrange(name, 0, -1)]
    assert {message.task_name for message in messages} <= {"work"}
    return Counter(message.args[0] for message in messages)


def just_now() -> str:
    """Return the current time as text."""
    return datetime.now(timezone.utc).isoformat()


def long_ago() -> str:
    """Return a time before any scheduler started, as text."""
    return (datetime.now(timezone.utc) - timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("topology", "source"),
    [("single", "indexed"), ("single", "keys"), ("cluster", "keys"), ("sentinel", "keys")],
    indirect=["topology"],
)
def test_schedulers_of_both_versions_can_alternate(
    topology: Topology, name: str, launcher: Launcher, peers: Peers, source: str
) -> None:
    common = {"where": describe(topology), "mechanism": source, "name": name}
    peers["old"].call("add_schedule", **common, number=99, when={"interval": 3600})
    turns = [("old", "async"), ("async", "old"), ("sync", "old")]
    for number, (writer, scheduler) in enumerate(turns):
        peers[writer].call("add_schedule", **common, number=number, when={"time": long_ago()})
        program = launcher.scheduler(scheduler, source)
        # A one-off is deleted after it was sent.
        wait_until(lambda: sent_to(topology, name)[number])  # noqa: B023
        key = f"{name}:{number}" if source == "keys" else f"{name}:data:{number}"
        wait_until(lambda: not keys_of(topology, key))  # noqa: B023
        program.kill()
    sent = sent_to(topology, name)
    assert sent.pop(99) >= 1
    assert sent == dict.fromkeys(range(len(turns)), 1)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("source", ["indexed", "keys"])
def test_running_scheduler_finds_schedules_added_by_1_2_4(
    topology: Topology, name: str, launcher: Launcher, peers: Peers, source: str
) -> None:
    common = {"where": describe(topology), "mechanism": source, "name": name}
    program = launcher.scheduler("async", source)
    added = [{"interval": 3600}, {"time": just_now()}, {"cron": "* * * * *"}, {"time": just_now()}]
    for number, when in enumerate(added):
        peers["old"].call("add_schedule", **common, number=number, when=when)
        wait_until(lambda: sent_to(topology, name)[number])  # noqa: B023
    program.kill()
    sent = sent_to(topology, name)
    # A cron schedule runs again in the next minute.
    assert sent.pop(2) >= 1
    assert sent == {0: 1, 1: 1, 3: 1}
