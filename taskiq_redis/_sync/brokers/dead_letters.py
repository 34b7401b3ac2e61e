# Generated from taskiq_redis/_async/brokers/dead_letters.py by scripts/unasync.py; edit that.

"""Messages that are not run any more, in a stream beside their queue."""

from collections.abc import Generator
from typing import Any

from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import NOTES, DeadLetter, notes, read_dead_letter
from taskiq_redis._core.keys import dead_key
from taskiq_redis._core.wire import StreamEntry, as_str, entries_of
from taskiq_redis._sync.connection import Connection

BURY = lua.load("group_progress", "bury")
REQUEUE = lua.load("requeue")
PURGE = lua.load("purge")

#: most dead letters of one command, so that it doesn't hold up the server
CHUNK = 100
#: s; how long it is tried to move an entry to the dead letters
RETRY_TIMEOUT = 60.0


def bury(
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
    moved = connection.run_script(
        BURY,
        [entry.stream, dead_key(entry.stream)],
        [group, holder, entry.id, int(delete), *notes(reason, failed, last_owner, group, entry.id)],
        retry_timeout=RETRY_TIMEOUT,
    )
    return bool(moved)


def read(connection: Connection, queue_name: str, limit: int) -> list[DeadLetter]:
    """Return the oldest dead letters of a queue (XRANGE)."""
    found: list[DeadLetter] = []
    for chunk in _chunks(connection, queue_name, limit):
        found += [read_dead_letter(queue_name, entry.id, entry.fields) for entry in chunk]
    return found


def requeue(connection: Connection, queue_name: str, ids: tuple[str, ...]) -> int:
    """Send dead letters once more, and return how many there were (EVALSHA of XADD, XDEL).

    Args:
        connection: where they are.
        queue_name: the stream that they were in.
        ids: which; all if none is given.
    """
    chunks = _chosen(connection, queue_name, ids)
    keys, notes_of_ours = [queue_name, dead_key(queue_name)], " ".join(NOTES)
    return sum([connection.run_script(REQUEUE, keys, [notes_of_ours, *chunk]) for chunk in chunks])


def purge(connection: Connection, queue_name: str, ids: tuple[str, ...]) -> int:
    """Delete dead letters, and return how many there were (EVALSHA of XDEL).

    Args:
        connection: where they are.
        queue_name: the stream that they were in.
        ids: which; all if none is given.
    """
    chunks = _chosen(connection, queue_name, ids)
    keys = [dead_key(queue_name)]
    return sum([connection.run_script(PURGE, keys, [*chunk]) for chunk in chunks])


def _chosen(connection: Connection, queue_name: str, ids: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return ids in chunks: those that were given, or else of all that are there now."""
    chosen = list(ids)
    if not ids:
        for chunk in _chunks(connection, queue_name, None):
            chosen += [entry.id for entry in chunk]
    return [tuple(chosen[first : first + CHUNK]) for first in range(0, len(chosen), CHUNK)]


def _chunks(
    connection: Connection, queue_name: str, limit: int | None
) -> Generator[list[StreamEntry], None, None]:
    start, key = "-", dead_key(queue_name)
    while limit is None or limit > 0:
        count = CHUNK if limit is None else min(CHUNK, limit)
        begin = start  # as it is in this round
        rows: Any = connection.call(
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
