"""Warn of a server that may evict queues."""

from typing import Any

from taskiq_redis._async.connection import Connection
from taskiq_redis._core.eviction import check_policy


async def warn_of_eviction(connection: Connection, queue_name: str) -> None:
    """Warn once if Redis evicts keys without a TTL while its memory is full; never raises (INFO).

    Args:
        connection: connection of the broker.
        queue_name: its queue.
    """
    try:
        reply: Any = await connection.call(
            lambda client: client.info("memory"), retry_timeout=0, bounded=True
        )
    except Exception:  # noqa: BLE001 - many users may not run INFO, and services may answer anything
        return
    check_policy(reply, queue_name, str(connection.server))
