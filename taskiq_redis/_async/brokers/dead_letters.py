"""Messages that are not run any more, in a stream beside their queue."""

from collections.abc import AsyncGenerator
from typing import Any

from taskiq_redis._async.connection import Connection
from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import NOTES, DeadLetter, notes, read_dead_letter
from taskiq_redis._core.keys import dead_key
from taskiq_redis._core.wire import StreamEntry, as_str, entries_of

BURY = lua.load("group_progress", "bury")
REQUEUE = lua.load("requeue")
PURGE = lua.load("purge")

#: most dead letters of one command, so that it doesn't hold up the server
CHUNK = 100
#: s; how long it is tried to move an entry to the dead letters
RETRY_TIMEOUT = 60.0


async def bury(
    connection: Connection,
    entry: StreamEntry,
    group: str,
    holder: str,
    *,
    reason: str,
    failed: int,
    last_owner: str,
    delete: bool,
) -> bool:
    """Move an entry to the dead letters, and tell whether it was still there to be moved (EVALSHA).

    Args:
        connection: where its stream is.
        entry: the entry.
        group: which group gives it up.
        holder: the consumer that holds it.
        reason: why.
        failed: how many deliveries of it have failed.
        last_owner: the consumer that had it last.
        delete: whether to delete it from the stream, if no other group needs it.
    """
    moved = await connection.run_script(
        BURY,
        [entry.stream, dead_key(entry.stream)],
        [group, holder, entry.id, int(delete), *notes(reason, failed, last_owner, group, entry.id)],
        retry_timeout=RETRY_TIMEOUT,
    )
    return bool(moved)


async def read(connection: Connection, queue_name: str, limit: int) -> list[DeadLetter]:
    """Return the oldest dead letters of a queue (XRANGE)."""
    found: list[DeadLetter] = []
    async for chunk in _chunks(connection, queue_name, limit):
        found += [read_dead_letter(queue_name, entry.id, entry.fields) for entry in chunk]
    return found


async def requeue(connection: Connection, queue_name: str, ids: tuple[str, ...]) -> int:
    """Send dead letters once more, and return how many there were (EVALSHA of XADD, XDEL).

    Args:
        connection: where they are.
        queue_name: the stream that they were in.
        ids: which; all if none is given.
    """
    chunks = await _chosen(connection, queue_name, ids)
    keys, notes_of_ours = [queue_name, dead_key(queue_name)], " ".join(NOTES)
    return sum(
        [await connection.run_script(REQUEUE, keys, [notes_of_ours, *chunk]) for chunk in chunks]
    )


async def purge(connection: Connection, queue_name: str, ids: tuple[str, ...]) -> int:
    """Delete dead letters, and return how many there were (EVALSHA of XDEL).

    Args:
        connection: where they are.
        queue_name: the stream that they were in.
        ids: which; all if none is given.
    """
    chunks = await _chosen(connection, queue_name, ids)
    keys = [dead_key(queue_name)]
    return sum([await connection.run_script(PURGE, keys, [*chunk]) for chunk in chunks])


async def _chosen(
    connection: Connection, queue_name: str, ids: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Return ids in chunks: those that were given, or else of all that are there now."""
    chosen = list(ids)
    if not ids:
        async for chunk in _chunks(connection, queue_name, None):
            chosen += [entry.id for entry in chunk]
    return [tuple(chosen[first : first + CHUNK]) for first in range(0, len(chosen), CHUNK)]


async def _chunks(
    connection: Connection, queue_name: str, limit: int | None
) -> AsyncGenerator[list[StreamEntry], None]:
    start, key = "-", dead_key(queue_name)
    while limit is None or limit > 0:
        count = CHUNK if limit is None else min(CHUNK, limit)
        begin = start  # as it is in this round
        rows: Any = await connection.call(
            lambda client: client.xrange(key, begin, "+", count),  # noqa: B023 - called at once
            key=key,
        )
        entries = entries_of(key, rows)
        if entries:
            yield entries
        if len(entries) < count:
            return
        start = f"({as_str(entries[-1].id)}"
        limit = None if limit is None else limit - count
