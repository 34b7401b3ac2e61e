"""A signal handler may use what it interrupts, though others wait for that thread."""

from collections.abc import Callable
from typing import Any

import pytest
from taskiq import BrokerMessage, TaskiqResult

from taskiq_redis import SyncRedisAsyncResultBackend, SyncRedisStreamBroker
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


@on_one_server
def test_sending(topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = SyncRedisStreamBroker(topology.url, queue_name=name)

    def send(data: bytes) -> None:
        broker.kick(BrokerMessage(task_id="i", task_name="t", message=data, labels={}))

    for number in range(3):
        inner = b"inner %d" % number
        with monkeypatch.context() as patch:
            interrupt_once(broker.connection, lambda data=inner: send(data), patch)
            send(b"outer %d" % number)
    sent = [fields[b"data"] for _, fields in client_of(topology).xrange(name)]
    assert sent == [b"%s %d" % (who, n) for n in range(3) for who in (b"inner", b"outer")]
    broker.shutdown()
