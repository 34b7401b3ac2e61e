# Generated from taskiq_redis/_async/brokers/trimming.py by scripts/unasync.py; edit that.

"""Trim streams: delete the entries that all groups have acknowledged."""

from collections.abc import Callable
from typing import Any

from taskiq_redis._core.wire import as_str, earliest_id, id_after
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection, execute

#: maximum number of entries per XTRIM, so that it doesn't block the server for long
STEP = 10_000

Progress = Callable[[str, int], None]


def trim(connection: Connection, stream: str, progress: Progress | None) -> int:
    """Delete the entries before the first one that a group needs, and return their number.

    Args:
        connection: where the stream is.
        stream: Redis key of the stream.
        progress: called after each step with the stream and the number of entries deleted so far.
    """
    first = connection.call(lambda client: _first_needed(client, stream), key=stream)
    if first is None:
        return 0
    deleted = 0
    approximately = ["MINID", "~", first, "LIMIT", str(STEP)]
    for limit in (approximately, ["MINID", "=", first]):
        while step := _trim_once(connection, stream, limit):
            deleted += step
            if progress is not None:
                progress(stream, deleted)
    return deleted


def _trim_once(connection: Connection, stream: str, limit: list[str]) -> int:
    command = ["XTRIM", stream, *limit]
    deleted: int = connection.call(lambda client: execute(client, *command), key=stream)
    return deleted


def _first_needed(client: Client, stream: str) -> str | None:
    """Return the ID of the first entry that a group may need; None without stream or groups."""
    if not client.exists(stream):
        return None
    groups: Any = client.xinfo_groups(stream)
    needed = [_first_needed_by(client, stream, group) for group in groups]
    return earliest_id(needed) if needed else None


def _first_needed_by(client: Client, stream: str, group: dict[str, Any]) -> str:
    pending: Any = client.xpending(stream, group["name"])
    if pending["min"] is not None:
        return as_str(pending["min"])
    return id_after(as_str(group["last-delivered-id"]))
