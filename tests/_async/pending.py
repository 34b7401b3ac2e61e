"""Pending entries of streams, as other workers leave them."""

import time
from typing import Any

from taskiq import BrokerMessage, TaskiqMessage

from taskiq_redis._async.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.wire import StreamEntry
from tests._aio import TIMEOUT
from tests._async.support import (
    redis_of,
)
from tests.servers import Topology

#: ms
LEASE = 600
#: ms; for leases that a busy machine must renew in time
LONG_LEASE = 3 * LEASE


def pending_of(topology: Topology, stream: str) -> dict[str, tuple[str, int]]:
    """Return the consumer and the delivery count of each pending entry."""
    rows = redis_of(topology).xpending_range(stream, "taskiq", "-", "+", 1000)
    return {
        row["message_id"].decode(): (row["consumer"].decode(), row["times_delivered"])
        for row in rows
    }


def consumers_of(topology: Topology, stream: str) -> set[str]:
    """Return the consumers of a stream, without the one that holds messages handed back."""
    consumers = redis_of(topology).xinfo_consumers(stream, "taskiq")
    return {consumer["name"].decode() for consumer in consumers} - {HANDED_BACK}


async def leave_pending(
    topology: Topology,
    stream: str,
    consumer: str,
    *sent: bytes,
    idle: int = 10 * LEASE,
    deliveries: int = 1,
    lease: int | None = LEASE,
) -> list[str]:
    """Leave messages pending for a dead worker; with `lease=None`, for one of 1.2.4."""
    client = redis_of(topology)
    ids = [client.xadd(stream, {"data": data}).decode() for data in sent]
    if not client.exists(stream) or not client.xinfo_groups(stream):
        client.xgroup_create(stream, "taskiq", id="0")
    client.xreadgroup("taskiq", consumer, {stream: ">"})
    client.xclaim(stream, "taskiq", consumer, 0, ids, idle=idle, retrycount=deliveries)
    if lease is not None:
        seen = round(time.time() * 1000) - idle
        client.hset(workers_key(stream, "taskiq"), consumer, f"{lease} {seen}")
    return ids


async def is_nothing_pending(topology: Topology, stream: str) -> bool:
    """Return whether all delivered messages are acknowledged."""
    return not pending_of(topology, stream)


def task_message(broker: Any, task_name: str, task_id: str) -> BrokerMessage:
    """Return the message of a task, as the broker's formatter builds it."""
    task = TaskiqMessage(task_id=task_id, task_name=task_name, labels={}, args=[], kwargs={})
    formatted: BrokerMessage = broker.formatter.dumps(task)
    return formatted


async def leased_entry(reader: Any) -> StreamEntry:
    """Fetch a message, and return its leased entry."""
    deadline = time.monotonic() + TIMEOUT
    while not await reader.fetch():
        assert time.monotonic() < deadline
    (entry,) = reader._source._keeper._table._leased.values()
    found: StreamEntry = entry
    return found
