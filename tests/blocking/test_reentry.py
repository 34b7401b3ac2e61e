"""A signal handler may use what it interrupts, though others wait for that thread."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import BrokerMessage, TaskiqResult
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis import SyncRedisAsyncResultBackend, SyncRedisStreamBroker
from taskiq_redis._core.guard import Entrance
from taskiq_redis._runtime.blocking import Background, make_pool
from taskiq_redis._sync.subscription import Subscription
from taskiq_redis.exceptions import ServerUnavailableError
from tests._sync.support import Waiting, opened
from tests._threads import TIMEOUT, Running, wait_until
from tests.servers import Topology, client_of

on_one_server = pytest.mark.parametrize("topology", ["single"], indirect=True)


def interrupt_once(connection: Any, handler: Callable[[], Any], patch: pytest.MonkeyPatch) -> None:
    """Call a handler in the middle of the next command, in the same thread."""
    call, interrupted = connection.call, list[int]()

    def interrupted_call(*arguments: Any, **options: Any) -> Any:
        if not interrupted:
            interrupted.append(1)
            handler()
        return call(*arguments, **options)

    patch.setattr(connection, "call", interrupted_call)


@on_one_server
def test_results(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SyncRedisAsyncResultBackend[int](topology.url, prefix_str=name)
    result = TaskiqResult(is_err=False, return_value=1, execution_time=0.0)
    interrupt_once(backend.connection, lambda: backend.set_result("inner", result), monkeypatch)
    backend.set_result("outer", result)
    assert backend.get_results(["inner", "outer"]).keys() == {"inner", "outer"}
    interrupt_once(backend.connection, lambda: backend.get_result("inner"), monkeypatch)
    assert backend.get_result("outer").return_value == 1
    for batcher in (backend._reads.get(), backend._writes.get()):
        assert all(pipeline.idle for pipeline in batcher._pipelines.values())
    backend.shutdown()


def test_waiting(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens for more while this thread says what to listen for."""
    with opened(topology, "results", prefix_str=name) as backend, Waiting(backend, "other"):
        change, inner, this = Subscription._change, list[Any](), threading.get_ident()
        result = TaskiqResult(is_err=False, return_value=1, execution_time=0.0)

        def interrupted(subscription: Subscription) -> None:
            change(subscription)
            if not inner and threading.get_ident() == this:
                inner.append(None)
                inner.append(backend.wait_result("inner", 20))

        def store() -> None:
            for task_id in ("inner", "outer"):
                # Not until it listens for it: this thread doesn't get to that meanwhile.
                key = f"{name}:{task_id}"
                wait_until(lambda: key in backend._arrivals.get()._waiting)  # noqa: B023
                backend.set_result(task_id, result)
            backend.set_result("other", result)

        monkeypatch.setattr(Subscription, "_change", interrupted)
        with Running(store):
            assert backend.wait_result("outer", 20).return_value == 1
        assert inner[1].return_value == 1


@on_one_server
def test_waiting_while_the_reader_cannot_go_on(topology: Topology, name: str) -> None:
    """It has interrupted this thread where it has what the reader needs for its next look."""
    with opened(topology, "results", prefix_str=name) as backend:
        result = TaskiqResult(is_err=False, return_value=1, execution_time=0.0)
        backend.set_result("stored", result)
        raw = client_of(topology).get(f"{name}:stored")
        arrivals, began = backend._arrivals.get(), time.monotonic()

        def store() -> None:
            wait_until(lambda: arrivals.listens)
            wait_until(lambda: not arrivals.listens)
            # Nobody is told of that.
            client_of(topology).set(f"{name}:late", raw)

        with Running(store), backend.connection._shared.get()._guard:
            assert backend.wait_result("late", TIMEOUT).return_value == 1
        # Not only when time was up.
        assert time.monotonic() - began < TIMEOUT


@on_one_server
def test_listening(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has sent all that there was to send, just before this thread would have."""
    with opened(topology, "results", prefix_str=name) as backend:
        client = backend.connection.make_subscriber(name)
        subscription = Subscription(client, lambda: frozenset({name}), 5.0)
        enter, interrupted = Entrance.enter, list[int]()

        def interrupted_enter(entrance: Entrance) -> bool:
            if not interrupted:
                interrupted.append(1)
                subscription.listen()
            return enter(entrance)

        monkeypatch.setattr(Entrance, "enter", interrupted_enter)
        subscription.listen()
        assert interrupted
        assert subscription.receive(5.0)["type"] == "subscribe"
        backend.connection.close_client(client)


@on_one_server
def test_shutting_down(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shuts down while this thread is about to start what listens."""
    with opened(topology, "results", prefix_str=name) as backend:
        start, interrupted = Background.start, list[int]()

        def interrupted_start(background: Background) -> None:
            interrupted.append(1)
            backend.shutdown()
            start(background)

        monkeypatch.setattr(Background, "start", interrupted_start)
        with pytest.raises(TaskiqResultTimeoutError):
            backend.wait_result("never", 0.3)
        assert interrupted == [1]


@on_one_server
def test_a_start_that_is_cut_short(topology: Topology, name: str) -> None:
    """It raises while this thread starts what listens, which runs all the same."""
    with opened(topology, "results", prefix_str=name) as backend:
        start, started = Background.start, list[Background]()

        def cut_short(background: Background) -> None:
            start(background)
            started.append(background)
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Background, "start", cut_short)
            with pytest.raises(KeyboardInterrupt):
                backend.wait_result("never", TIMEOUT)
        (thread,) = [background._thread for background in started]
        with Waiting(backend, "late") as waiting:
            # There would be two of them, as long as anybody waits.
            wait_until(lambda: thread is not None and not thread.is_alive())
            wait_until(waiting.listens)
            result = TaskiqResult(is_err=False, return_value=1, execution_time=0.0)
            backend.set_result("late", result)
            wait_until(waiting.done)


@on_one_server
def test_a_pool_of_one(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no second connection for it; it hears of that, and what it interrupts goes on."""
    few: dict[str, Any] = {"max_connection_pool_size": 1, "timeout": 0.05, "kick_timeout": 0.1}
    broker = SyncRedisStreamBroker(topology.url, queue_name=name, **few)

    def send(data: bytes) -> None:
        broker.kick(BrokerMessage(task_id="i", task_name="t", message=data, labels={}))

    send(b"first")
    client: Any = broker.connection.client
    parse, errors = client.parse_response, list[Exception]()

    def interrupted_parse(*arguments: Any, **options: Any) -> Any:
        if not errors:
            with pytest.raises(ServerUnavailableError, match="max_connection_pool_size") as error:
                send(b"inner")
            errors.append(error.value)
        return parse(*arguments, **options)

    monkeypatch.setattr(client, "parse_response", interrupted_parse)
    send(b"outer")
    sent = [fields[b"data"] for _, fields in client_of(topology).xrange(name)]
    assert sent == [b"first", b"outer"]
    broker.shutdown()


@on_one_server
def test_waiting_for_a_connection(topology: Topology) -> None:
    """It takes one while this thread is about to."""
    pool: Any = make_pool(topology.url, max_connections=2)
    with pool.pool.mutex:
        pool.release(pool.get_connection())
    pool.disconnect()


@on_one_server
def test_sending(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = SyncRedisStreamBroker(topology.url, queue_name=name)

    def send(data: bytes) -> None:
        broker.kick(BrokerMessage(task_id="i", task_name="t", message=data, labels={}))

    for number in range(3):
        inner = b"inner %d" % number
        with monkeypatch.context() as patch:
            interrupt_once(broker.connection, lambda: send(inner), patch)  # noqa: B023
            send(b"outer %d" % number)
    sent = [fields[b"data"] for _, fields in client_of(topology).xrange(name)]
    assert sent == [b"%s %d" % (who, n) for n in range(3) for who in (b"inner", b"outer")]
    broker.shutdown()
