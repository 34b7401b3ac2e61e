"""The event loop of a worker is blocked for longer than its leases."""

import asyncio
from functools import partial
from typing import Any

from tests._async.support import build, data_of, message, on_all_nodes, redis_of
from tests._sync.support import Listener as BlockingListener, build as build_blocking
from tests.loops.support import NewLoop, each_loop_kind, run
from tests.servers import Topology
from tests.waiting import wait_until

#: ms
LEASE = 800


def is_blocked_in_read(topology: Topology, client_name: str) -> bool:
    """Return whether a client of that name is blocked in a read."""
    lists = on_all_nodes(topology, lambda node: node.client_list())
    return any(
        client["name"] == client_name and "b" in client["flags"]
        for clients in lists
        for client in clients
    )


@each_loop_kind
def test_reply_received_while_the_loop_was_blocked_is_not_processed_twice(
    topology: Topology, name: str, new_loop: NewLoop
) -> None:
    options: dict[str, Any] = {"queue_name": name, "idle_timeout": LEASE}

    async def listen_while_the_loop_is_blocked() -> None:
        broker = build(topology, "stream", client_name=name, **options)
        messages = broker.listen()
        await broker.kick(message(b"first"))
        assert await data_of(await anext(messages)) == b"first"
        waiting = asyncio.ensure_future(anext(messages))
        while not is_blocked_in_read(topology, name):
            await asyncio.sleep(0.001)
        redis_of(topology).xadd(name, {"data": b"second"})
        # Block this loop until another worker has claimed the message.
        with BlockingListener(build_blocking(topology, "stream", **options)) as other:
            wait_until(partial(other.has, b"second"))
        await broker.kick(message(b"third"))
        assert await data_of(await waiting) == b"third"
        await messages.aclose()
        await broker.shutdown()

    run(listen_while_the_loop_is_blocked, new_loop)
