# Generated from tests/_async/test_deadlines.py by scripts/unasync.py; edit that.

"""`kick_timeout` and `read_timeout` bound what a server that never replies can cost."""

from functools import partial
from typing import Any

import pytest
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._sync import connection
from taskiq_redis.exceptions import ServerUnavailableError
from tests._sync.bad_input import BROKERS, QUEUES, at_port
from tests._sync.support import message, opened, redis_of, result
from tests._threads import together
from tests.servers import ServerProcess, Topology

pytestmark = [pytest.mark.full]

#: redis-py would wait for ever for a reply
PATIENT: dict[str, Any] = {"socket_timeout": None, "socket_connect_timeout": None}


@pytest.fixture(autouse=True)
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a short deadline count, so that the tests take less time."""
    monkeypatch.setattr(connection, "MIN_REPLY_TIMEOUT", 0.1)


def patient(topology: Topology) -> dict[str, Any]:
    """Return connection options without timeouts."""
    return {**PATIENT, "sentinel_kwargs": PATIENT} if topology.kind == "sentinel" else PATIENT


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("mechanism", BROKERS)
def test_kick_timeout_bounds_a_send_to_a_silent_server(
    topology: Topology, name: str, silent_port: int, mechanism: str, many: bool
) -> None:
    where, options = at_port(topology, silent_port), patient(topology)
    with opened(where, mechanism, queue_name=name, kick_timeout=0.1, **options) as broker:
        sent = message(b"a")
        send = partial(broker.kick_many, [sent]) if many else partial(broker.kick, sent)
        with pytest.raises(ServerUnavailableError, match="Check "):
            together(send)


def test_read_timeout_bounds_reads_from_a_silent_server(
    topology: Topology, name: str, silent_port: int
) -> None:
    where, options = at_port(topology, silent_port), patient(topology)
    with opened(where, "results", prefix_str=name, read_timeout=0.1, **options) as backend:
        for read in (
            partial(backend.get_result, "id"),
            partial(backend.is_result_ready, "id"),
            partial(backend.get_progress, "id"),
            partial(backend.get_results, ["id", "other"]),
        ):
            with pytest.raises(ServerUnavailableError, match="Check "):
                together(read)
        if topology.kind == "single":
            with pytest.raises((ServerUnavailableError, TaskiqResultTimeoutError)):
                together(partial(backend.wait_result, "id", timeout=0.1))


@pytest.mark.parametrize(("mechanism", "option"), [("list", "kick"), ("results", "read")])
def test_startup_does_not_wait_for_a_silent_server(
    topology: Topology, silent_port: int, mechanism: str, option: str
) -> None:
    where, options = at_port(topology, silent_port), patient(topology)
    with opened(where, mechanism, **{f"{option}_timeout": 0.1}, **options) as made:
        # Without a timeout of its own, it would never return.
        together(made.startup)


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.parametrize("mechanism", QUEUES)
def test_server_that_falls_silent_costs_the_timeouts_once(
    topology: Topology, name: str, mechanism: str
) -> None:
    with ServerProcess() as server:
        names = {"queue_name": name, "kick_timeout": 1, **PATIENT}
        with (
            opened(server.topology, mechanism, **names) as broker,
            opened(
                server.topology, "results", prefix_str=name, read_timeout=1, **PATIENT
            ) as backend,
        ):
            broker.kick(message(b"before"))
            backend.set_result("id", result(1))
            assert backend.get_result("id").return_value == 1
            server.pause()
            try:
                # Others wait for the same batch.
                sends = [partial(failing_send, broker) for _ in range(5)]
                together(*sends, partial(failing_read, backend))
            finally:
                server.resume()
            broker.kick(message(b"after"))
            assert backend.get_result("id").return_value == 1
        assert redis_of(server.topology).exists(name)


def failing_send(broker: Any) -> None:
    with pytest.raises(ServerUnavailableError):
        broker.kick(message(b"a"))


def failing_read(backend: Any) -> None:
    with pytest.raises(ServerUnavailableError):
        backend.get_result("id")


def test_timeouts_of_the_user_stay_if_they_are_shorter(topology: Topology) -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        ({"kick_timeout": 5}, False),
        ({"kick_timeout": 4.5}, True),
        ({"kick_timeout": 4.5, "socket_timeout": 1, "socket_connect_timeout": 1}, False),
        ({"kick_timeout": 4.5, "socket_timeout": 1}, True),
        ({"socket_timeout": None}, True),
    ]
    for options, bounded in cases:
        if topology.kind == "sentinel" and "socket_timeout" in options:
            options["sentinel_kwargs"] = {"socket_timeout": 1, "socket_connect_timeout": 1}
        with opened(topology, "list", **options) as broker:
            assert (broker._connection._bounded is not None) == bounded


@pytest.mark.parametrize("option", ["socket_connect_timeout", "socket_timeout"])
def test_bounded_sends_keep_the_shorter_timeout_of_the_user(
    topology: Topology, option: str
) -> None:
    options: dict[str, Any] = {**PATIENT, option: 0.5}
    if topology.kind == "sentinel":
        options["sentinel_kwargs"] = dict(options)
    with opened(topology, "list", kick_timeout=3, **options) as broker:
        client = broker._connection._bounded.get().client
        manager: Any = getattr(client, "nodes_manager", None)
        pool = manager or client.connection_pool
        used = [pool.connection_kwargs]
        if topology.kind == "sentinel":
            sentinels = pool.sentinel_manager.sentinels
            used += [each.connection_pool.connection_kwargs for each in sentinels]
        for each in used:
            assert {name: each[name] for name in PATIENT} == {
                **dict.fromkeys(PATIENT, 3),
                option: 0.5,
            }


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_pool_of_the_user_is_used_whatever_the_timeouts(topology: Topology, name: str) -> None:
    with (
        opened(topology, "list", queue_name=name, kick_timeout=1) as broker,
        opened(topology, "list", queue_name=name, client_name=name) as other,
    ):
        broker.connection_pool = other.connection_pool
        broker.kick(message(b"a"))
        assert broker._connection._bounded._values == {}
        broker.shutdown()
        broker.kick(message(b"a"))
        assert broker._connection._bounded._values != {}
