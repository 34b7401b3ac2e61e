"""Run commands, and fill queues for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import typer.testing
from taskiq import TaskiqMessage
from typer.testing import CliRunner, Result

import taskiq_redis
from taskiq_redis import GroupStats
from taskiq_redis.cli.app import app
from tests.leaks import ARGUMENT
from tests.servers import Topology, client_of
from tests.waiting import wait_until

# It makes all commands again for each call, which takes longer than most of them.
vars(typer.testing)["_get_command"] = cache(vars(typer.testing)["_get_command"])

CLASSES = {"stream": "RedisStream", "list": "ListQueue", "pubsub": "PubSub"}
TOPOLOGIES = {"single": "", "cluster": "Cluster", "sentinel": "Sentinel"}


def run(*words: str, **options: Any) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(app, words, **options)
    # Expected errors are one line; others are bugs.
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def server_options(topology: Topology) -> list[str]:
    """Return the options that name a server."""
    if topology.kind == "cluster":
        return ["--url", topology.url, "--cluster"]
    if topology.kind == "sentinel":
        addresses = ",".join(f"{host}:{port}" for host, port in topology.sentinels)
        return ["--url", f"redis://{addresses}", "--sentinel", topology.master_name]
    return ["--url", topology.url]


class Commands:
    """Runs commands for a queue or a prefix on a topology.

    Args:
        topology: the topology.
        options: options of all commands.
    """

    def __init__(self, topology: Topology, *options: str) -> None:
        self._options = [*server_options(topology), *options]

    def __call__(self, *words: str, code: int = 0, **options: Any) -> str:
        """Run a command, check its exit code, and return its output."""
        result = run(*words, *self._options, **options)
        assert result.exit_code == code, result.output
        return result.output

    def json(self, *words: str, code: int = 0) -> Any:
        """Run a command with ``--json``, and return what it prints on standard output."""
        result = run(*words, "--json", *self._options)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def lines(self, *words: str) -> list[dict[str, Any]]:
        """Run a command that prints an object per line, and return the objects."""
        result = run(*words, "--json", *self._options)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


def make(topology: Topology, first: str, last: str, **options: Any) -> Any:
    """Make a blocking object of a public class."""
    kind = getattr(taskiq_redis, f"Sync{first}{TOPOLOGIES[topology.kind]}{last}")
    if topology.kind == "sentinel":
        return kind(list(topology.sentinels), topology.master_name, **options)
    return kind(topology.url, **options)


def make_broker(topology: Topology, mechanism: str, name: str, **options: Any) -> Any:
    """Make a blocking broker."""
    more = {"xread_block": 200} if mechanism == "stream" else {}
    return make(topology, CLASSES[mechanism], "Broker", queue_name=name, **more, **options)


def make_source(topology: Topology, kind: str, prefix: str) -> Any:
    """Make a blocking schedule source, `keys` or `indexed`."""
    first = {"keys": "Redis", "indexed": "ListRedis"}[kind]
    return make(topology, first, "ScheduleSource", prefix=prefix)


def send(broker: Any, *task_ids: str, task: str = "note", delay: float | None = None) -> None:
    """Send tasks with a secret argument."""
    for task_id in task_ids:
        kicker = broker.kicker(task).with_task_id(task_id)
        (kicker if delay is None else kicker.with_delay(delay)).kiq(ARGUMENT)


@contextmanager
def working(broker: Any, number: int) -> Iterator[None]:
    """Receive messages, and hold them as a worker does."""
    messages = broker.listen()
    held = [next(messages) for _ in range(number)]
    # A thread registers the worker.
    wait_until(lambda: any(is_registered(group) for group in broker.stats().groups))
    try:
        yield
    finally:
        for message in held:
            message.ack()
        messages.close()


def is_registered(group: GroupStats) -> bool:
    """Return whether a worker of a group is registered."""
    return any(worker.registered for worker in group.workers)


def add_dead_letters(broker: Any, topology: Topology, *task_ids: str, task: str = "note") -> None:
    """Add dead letters to the queue of a broker."""
    name = broker.queue_name
    key = f"{name}:dead" if "{" in name else f"{{{name}}}:dead"
    for task_id in task_ids:
        sent = TaskiqMessage(task_id=task_id, task_name=task, labels={}, args=[ARGUMENT], kwargs={})
        fields = {
            "data": broker.formatter.dumps(sent).message,
            "dead-reason": "a test",
            "dead-deliveries": "5",
            "dead-consumer": "somebody",
        }
        client_of(topology).xadd(key, fields)
