"""Figures for Prometheus: what a scrape shows, also if the server is away."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from taskiq import InMemoryBroker

from taskiq_redis import RedisStreamBroker, SyncRedisStreamBroker
from taskiq_redis.contrib.prometheus import QueueCollector
from taskiq_redis.exceptions import InvalidOptionError
from tests.cli.support import add_dead_letters, run, send, server_options, working
from tests.servers import Topology, client_of
from tests.waiting import TIMEOUT

ROOT = Path(__file__).parent.parent.parent
single = pytest.mark.parametrize("topology", ["single"], indirect=True)

LABELS = ("queue", "group", "state")
Samples = dict[tuple[str, ...], float]


def scrape(*brokers: Any, **options: Any) -> Samples:
    """Return the samples of a collector by name and labels, without prefix and duration."""
    with closing(QueueCollector(*brokers, **options)) as collector:
        return samples_of(collector)


def samples_of(collector: QueueCollector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    return {
        (
            sample.name.removeprefix("taskiq_redis_"),
            *(sample.labels[label] for label in LABELS if label in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "duration" not in sample.name
    }


def test_stream_has_all_figures(topology: Topology, broker: Any, name: str) -> None:
    send(broker, "a", "b", "c")
    send(broker, "d", delay=1000)
    add_dead_letters(broker, topology, "dead")
    with working(broker, 1):
        found = scrape(broker)
    assert 0 <= found.pop(("queue_oldest_age_seconds", name)) < 600
    assert 400 < found.pop(("queue_next_due_seconds", name)) <= 1000
    assert 0 <= found.pop(("group_lease_age_seconds", name, "taskiq")) < 600
    assert found == {
        ("queue_up", name): 1,
        ("queue_waiting_messages", name): 2,
        ("queue_running_messages", name): 1,
        ("queue_delayed_messages", name): 1,
        ("queue_dead_letters", name): 1,
        ("queue_paused", name): 0,
        ("group_lag_messages", name, "taskiq"): 2,
        ("group_waiting_messages", name, "taskiq"): 2,
        ("group_running_messages", name, "taskiq"): 1,
        ("group_workers", name, "taskiq", "alive"): 1,
        ("group_workers", name, "taskiq", "expired"): 0,
        ("group_workers", name, "taskiq", "unregistered"): 0,
    }


@single
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_unknown_figures_have_no_samples(broker: Any, mechanism: str, name: str) -> None:
    names = {sample[0] for sample in scrape(broker)}
    assert "queue_up" in names
    assert "queue_running_messages" not in names
    assert ("queue_subscribers" in names) == (mechanism == "pubsub")
    assert ("queue_waiting_messages" in names) == (mechanism == "list")


@single
def test_async_broker_and_several_queues_are_collected(topology: Topology, name: str) -> None:
    client_of(topology).xadd(f"{name}-2", {"data": b"x"})
    broker = RedisStreamBroker(topology.url, queue_name=name, additional_streams={f"{name}-2": ">"})
    found = scrape(broker)
    assert found["queue_waiting_messages", f"{name}-2"] == 1
    assert found["queue_up", name] == 1
    assert ("queue_up", "other") in scrape(broker, queues=["other"])
    asyncio.run(broker.shutdown())


@single
def test_registering_reads_nothing(broker: Any, monkeypatch: Any) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(type(broker), "stats", lambda *given: calls.append(given))
    with closing(QueueCollector(broker)) as collector:
        CollectorRegistry().register(collector)
    assert calls == []


@single
def test_error_makes_up_0_and_is_logged_once(
    topology: Topology, broker: Any, name: str, caplog: Any
) -> None:
    client_of(topology).set(name, "no stream")
    with closing(QueueCollector(broker)) as collector:
        for _ in range(2):
            assert samples_of(collector) == {("queue_up", name): 0}
        assert caplog.text.count("can't be read for metrics") == 1
        client_of(topology).delete(name)
        assert samples_of(collector)["queue_up", name] == 1


class Stuck(SyncRedisStreamBroker):
    """A broker whose server doesn't answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__("redis://localhost:1", **options)
        self.release = threading.Event()
        self.calls = 0

    def stats(self, queue_name: str | None = None) -> Any:
        self.calls += 1
        self.release.wait(TIMEOUT)
        raise ConnectionError


def test_scrape_does_not_wait_for_a_silent_server(caplog: Any) -> None:
    broker = Stuck(queue_name="stuck")
    with closing(QueueCollector(broker, timeout=0.01)) as collector:
        for _ in range(3):
            assert samples_of(collector) == {("queue_up", "stuck"): 0}
        # They don't pile up.
        assert broker.calls == 1
        broker.release.set()
    assert "no reply within 0.01 s" in caplog.text
    broker.shutdown()


@pytest.fixture
def serving(topology: Topology, name: str) -> Iterator[str]:
    """Serve metrics in a program, and return the URL."""
    words = ["metrics", "--port", "0", "--address", "127.0.0.1", "--queue", name]
    program = subprocess.Popen(
        [sys.executable, "-m", "taskiq_redis", *words, *server_options(topology)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert program.stderr is not None
    line = program.stderr.readline()
    port = re.search(r":(\d+)/metrics", line)
    yield f"http://127.0.0.1:{port[1] if port else line}/metrics"
    program.send_signal(signal.SIGTERM)
    assert program.wait(TIMEOUT) == 0
    assert program.stderr.read() == ""
    program.stderr.close()


@single
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_program_serves_metrics(serving: str, broker: Any, name: str) -> None:
    send(broker, "a")
    with urllib.request.urlopen(serving, timeout=TIMEOUT) as reply:
        text = reply.read().decode()
    assert f'taskiq_redis_queue_waiting_messages{{queue="{name}"}} 1.0' in text


@single
def test_port_in_use_is_reported(topology: Topology, name: str) -> None:
    port = topology.url.rpartition(":")[2]
    words = ["metrics", "--port", port, "--address", "127.0.0.1", "--queue", name]
    result = run(*words, *server_options(topology))
    assert result.exit_code == 2
    assert "Can't listen" in result.output


@single
def test_brokers_whose_samples_would_be_mixed_are_refused(
    topology: Topology, broker: Any, name: str
) -> None:
    twice = (broker, RedisStreamBroker(topology.url, queue_name=name))
    for brokers, problem in ((twice, "two of them"), ([InMemoryBroker()], "no queue in Redis")):
        with pytest.raises(InvalidOptionError, match=problem):
            QueueCollector(*brokers)
    found = scrape(broker, queues=["a", "b", "a"])
    assert [labels for labels in found if labels[0] == "queue_up"] == [
        ("queue_up", "a"),
        ("queue_up", "b"),
    ]


def each_expression(found: Any, keep: Callable[[str], None]) -> None:
    """Call a function with each expression of a Grafana board."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name in {"expr", "definition"}:
                keep(value)
            each_expression(value, keep)
    elif isinstance(found, list):
        for value in found:
            each_expression(value, keep)


def test_board_uses_metrics_that_exist() -> None:
    board = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    expressions: list[str] = []
    each_expression(board, expressions.append)
    used = set(re.findall(r"taskiq_redis_\w+", " ".join(expressions)))
    with closing(QueueCollector()) as collector:
        existing = {family.name for family in collector.describe()}
    assert used
    # The duration is for debugging.
    assert used == existing - {"taskiq_redis_scrape_duration_seconds"}
