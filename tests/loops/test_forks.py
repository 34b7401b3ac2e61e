"""After a fork, parent and child use separate connections."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests._async.support import build, connections_named, length, message
from tests._sync import support as blocking
from tests.forks import in_child
from tests.loops.support import NewLoop, each_loop_kind, run
from tests.servers import Topology
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

QUEUES = ["list", "stream"]


@each_loop_kind
@pytest.mark.parametrize("mechanism", QUEUES)
def test_forked_child_of_an_event_loop_opens_its_own_connections(
    topology: Topology, name: str, mechanism: str, new_loop: NewLoop
) -> None:
    broker = build(topology, mechanism, queue_name=name, client_name=name)
    loop = new_loop()

    async def send() -> None:
        await broker.kick(message(b"a"))

    async def send_in_child() -> None:
        assert connections_named(topology, name) == before
        await send()
        assert len(connections_named(topology, name)) > len(before)
        await broker.shutdown()
        wait_until(lambda: connections_named(topology, name) == before)

    loop.run_until_complete(send())
    before = connections_named(topology, name)
    assert in_child(lambda: run(send_in_child, new_loop)) == 0
    loop.run_until_complete(send())
    assert connections_named(topology, name) == before
    assert length(topology, mechanism, name) == 3
    loop.run_until_complete(broker.shutdown())
    loop.close()


@pytest.mark.parametrize("mechanism", QUEUES)
def test_forked_blocking_child_opens_its_own_connections(
    topology: Topology, name: str, mechanism: str
) -> None:
    with blocking.opened(topology, mechanism, queue_name=name, client_name=name) as broker:

        def send_in_child() -> None:
            broker.kick(message(b"a"))
            assert len(connections_named(topology, name)) > len(before)
            broker.shutdown()
            wait_until(lambda: connections_named(topology, name) == before)

        broker.kick(message(b"a"))
        before = connections_named(topology, name)
        assert in_child(send_in_child) == 0
        broker.kick(message(b"a"))
        assert connections_named(topology, name) == before
        assert length(topology, mechanism, name) == 3


@pytest.mark.parametrize("mechanism", QUEUES)
def test_process_may_fork_while_threads_send(topology: Topology, name: str, mechanism: str) -> None:
    stop = threading.Event()
    sent: list[int] = []

    with blocking.opened(topology, mechanism, queue_name=name) as broker:

        def send() -> int:
            count = 0
            while not stop.is_set():
                broker.kick(message(b"a"))
                count += 1
            return count

        def send_in_child() -> None:
            broker.kick(message(b"a"))
            broker.shutdown()

        with ThreadPoolExecutor(4) as pool:
            sending = [pool.submit(send) for _ in range(4)]
            try:
                assert [in_child(send_in_child) for _ in range(5)] == [0] * 5
            finally:
                stop.set()
            sent = [each.result() for each in sending]
        assert length(topology, mechanism, name) == sum(sent) + 5
