"""`ping` answers by its exit code, and `status` tells where a task is."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.support import Commands, make_source, run, send, working
from tests.servers import Topology, lease_port, release_port

single = pytest.mark.parametrize("topology", ["single"], indirect=True)


def test_ping_of_server_answers(command: Commands) -> None:
    assert "answers" in command("ping")


@pytest.fixture
def nowhere() -> Any:
    """The URL of a port without a server."""
    port = lease_port()
    yield f"redis://127.0.0.1:{port}"
    release_port(port)


def test_ping_of_missing_server_exits_with_1_and_others_with_2(
    nowhere: str, monkeypatch: Any
) -> None:
    clock = time.monotonic
    started = clock()
    # A minute passes with each second.
    clock_of_hours = SimpleNamespace(monotonic=lambda: started + 60 * (clock() - started))
    monkeypatch.setattr("taskiq_redis._sync.connection.time", clock_of_hours)
    for words, code in {("ping",): 1, ("ping", "--any"): 2, ("info",): 2}.items():
        result = run(*words, "--url", nowhere)
        assert result.exit_code == code, result.output
        assert "Check that the server runs" in result.output


def test_ping_finds_workers(broker: Any, command: Commands) -> None:
    assert "No such worker" in command("ping", "--any", code=1)
    send(broker, "a")
    with working(broker, 1):
        (worker,) = command.json("workers")["workers"]
        assert command("ping", "--any") == "1 worker alive.\n"
        command("ping", "--worker", worker["name"])
        command("ping", "--worker", "other", code=1)
        command("ping", "--any", "--host", worker["host"])
        command("ping", "--any", "--host", "other", code=1)


@single
def test_each_source_of_a_scheduler_needs_one_that_is_alive(
    topology: Topology, name: str, monkeypatch: Any
) -> None:
    sources = [make_source(topology, kind, f"{{{name}}}:{kind}") for kind in ("indexed", "keys")]
    monkeypatch.setattr("taskiq_redis.cli.targets.load", lambda target: SimpleNamespace())
    monkeypatch.setattr("taskiq_redis.cli.targets.sources_of", lambda found: sources)
    words = ("ping", "app:scheduler", "--scheduler")
    for source, code in zip(sources, (1, 0), strict=True):
        source._registration.record_send()
        source.get_schedules()
        assert run(*words).exit_code == code
    for source in sources:
        source.shutdown()
    assert run(*words).output == "No such scheduler is alive.\n"
    for source in sources:
        source.shutdown()


def test_ping_finds_schedulers(topology: Topology, name: str) -> None:
    prefix = f"{{{name}}}:schedule"
    command = Commands(topology, "--prefix", prefix)
    assert "No such scheduler" in command("ping", "--scheduler", code=1)
    with make_source(topology, "indexed", prefix) as source:
        source._registration.record_send()
        source.get_schedules()
        (found,) = command.json("schedules", "schedulers")["schedulers"]
        assert command("ping", "--scheduler", "--host", found["host"]) == "1 scheduler alive.\n"
        assert found["is_alive"]
        assert found["name"] in command("schedules", "schedulers")
        command("ping", "--scheduler", "--host", "other", code=1)
    command("ping", "--scheduler", code=1)


@single
@pytest.mark.parametrize("mechanism", ["list", "pubsub"])
def test_ping_knows_no_workers_of_lists_and_channels(command: Commands, mechanism: str) -> None:
    command("ping", "--any", code={"list": 2, "pubsub": 1}[mechanism])
    assert "Only streams know" in command("ping", "--worker", "x", code=2)


@single
@pytest.mark.parametrize(
    "words", [["--any", "--scheduler"], ["--host", "x"], ["--any", "--worker", "x"]]
)
def test_ping_refuses_contradictions(command: Commands, words: list[str]) -> None:
    command("ping", *words, code=2)
