# Generated from taskiq_redis/_async/brokers/queue_contents.py by scripts/unasync.py; edit that.

"""Read what a queue holds, page by page, and count it."""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from redis import RedisCluster
from redis.exceptions import ResponseError

from taskiq_redis._core import lua
from taskiq_redis._core.dead_letters import DATA_FIELD, DeadLetter, OpenMessage, read_dead_letter
from taskiq_redis._core.delays import UNIQUE_BYTES
from taskiq_redis._core.keys import dead_letters_key, delayed_key, paused_key, workers_key
from taskiq_redis._core.queue_counts import GroupCount, queue_stats
from taskiq_redis._core.queue_stats import QueueStats
from taskiq_redis._core.queued_task import QueuedTask
from taskiq_redis._core.wire import (
    LARGEST_ID,
    as_bytes,
    as_str,
    entries_of,
    fields_of,
    time_at,
    time_of_id,
)
from taskiq_redis._sync.brokers.consumer_groups import HANDED_BACK
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection

STREAM_STATS = lua.load("queue_state", "stream_stats")
LIST_STATS = lua.load("queue_state", "list_stats")
READ_PENDING = lua.load("read_pending")

#: maximum number of entries that a script visits, and bytes after which it visits no more, as it
#: blocks the server
MAX_VISITED, MAX_BYTES = 1000, 2**20
#: number of messages that are read at first, as they may be long, and at most
FIRST_PAGE, LARGEST_PAGE = 10, 100

Task = TypeVar("Task", bound=QueuedTask)
#: where a page of messages begins
Cursor = TypeVar("Cursor")
#: reads messages, given where they begin and their maximum number; returns them, and where the next
#: ones begin, or None after the last
ReadPage = Callable[[Cursor, int], tuple[list[Task], Cursor | None]]


def stream_stats(connection: Connection, queue_name: str, group_name: str) -> QueueStats:
    """Return the state of a queue in a stream (EVALSHA); see `stream_stats.lua`.

    Args:
        connection: where the stream is.
        queue_name: Redis key of the stream.
        group_name: a group that it probably has.
    """
    counts = {group_name: GroupCount(group_name)}
    while True:
        keys = [
            queue_name,
            *_side_keys(queue_name),
            *(workers_key(queue_name, name) for name in counts),
        ]
        arguments = [argument for count in counts.values() for argument in count.arguments]
        reply: Any = connection.run_script(
            STREAM_STATS, keys, [HANDED_BACK, MAX_VISITED, MAX_BYTES, *arguments], key=keys[:4]
        )
        state, length, first_id, all_counted, groups = reply
        found = {as_str(group[0]): group for group in groups}
        counts = {name: counts.get(name) or GroupCount(group[0]) for name, group in found.items()}
        for name, group in found.items():
            counts[name].record(group)
        if all_counted:
            return queue_stats(
                "stream",
                queue_name,
                state,
                length,
                as_str(first_id),
                counts.values(),
                HANDED_BACK,
            )


def list_stats(connection: Connection, queue_name: str) -> QueueStats:
    """Return the state of a queue in a list (EVALSHA).

    Args:
        connection: where the list is.
        queue_name: Redis key of the list.
    """
    keys = [queue_name, *_side_keys(queue_name)]
    reply: Any = connection.run_script(LIST_STATS, keys, [])
    state, length = reply
    return queue_stats("list", queue_name, state, length)


def _side_keys(queue_name: str) -> list[str]:
    return [delayed_key(queue_name), dead_letters_key(queue_name), paused_key(queue_name)]


def subscribers(connection: Connection, channel: str) -> int:
    """Return how many clients listen to a channel (PUBSUB NUMSUB); on a cluster, of all nodes.

    Args:
        connection: where the channel is.
        channel: name of the channel.
    """
    reply: Any = connection.call(partial(_listeners_of, channel), key=channel)
    return sum(int(number) for _, number in reply)


def _listeners_of(channel: str, client: Any) -> Any:
    # By itself, not every redis-py asks all nodes of a cluster.
    nodes = {"target_nodes": client.ALL_NODES} if isinstance(client, RedisCluster) else {}
    return client.execute_command("PUBSUB NUMSUB", channel, **nodes)


def tasks(
    read_page: ReadPage[Cursor, Task], start: Cursor, task_name: str | None, limit: int | None
) -> Generator[Task, None, None]:
    """Yield messages, read page by page, whose size follows that of the messages before.

    Args:
        read_page: reads a page.
        start: where the first page begins.
        task_name: name of the tasks to yield; None for all messages.
        limit: maximum number of messages to yield; None for no limit.
    """
    cursor: Cursor | None = start
    size, left = FIRST_PAGE, limit
    while cursor is not None and (left is None or left > 0):
        page, cursor = read_page(cursor, size)
        for task in page:
            if task_name is not None and task.task_name != task_name:
                continue
            yield task
            if left is not None:
                left -= 1
                if left <= 0:
                    return
        average = sum(len(task.data or b"") for task in page) // max(1, len(page))
        size = max(1, min(2 * size, LARGEST_PAGE, MAX_BYTES // max(1, average)))


def waiting_in_stream(
    connection: Connection,
    stream: str,
    group: str,
    open_message: OpenMessage,
    cursor: tuple[bool, str],
    size: int,
) -> tuple[list[QueuedTask], tuple[bool, str] | None]:
    """Read a page of messages that no worker of a group holds: first those that were handed back.

    Args:
        connection: where the stream is.
        stream: Redis key of the stream.
        group: the group.
        open_message: see `read_dead_letter`.
        cursor: whether handed-back messages are read, and the ID where the page begins; '' for the
            first one that was not delivered.
        size: maximum number of messages.
    """
    is_handed_back, start = cursor
    if is_handed_back:
        page, next_start = pending_in_stream(
            connection, stream, group, open_message, start, size, handed_back=True
        )
        return page, (False, "") if next_start is None else (True, next_start)
    if not start:
        start = connection.call(
            lambda client: _first_undelivered(client, stream, group), key=stream
        )
    if start == f"({LARGEST_ID}":
        return [], None
    rows: Any = connection.call(lambda client: client.xrange(stream, start, "+", size), key=stream)
    page = [
        _task_of(stream, entry.id, entry.fields, open_message) for entry in entries_of(stream, rows)
    ]
    return page, (False, f"({page[-1].id}") if len(page) >= size else None


def _first_undelivered(client: Client, stream: str, group: str) -> str:
    """Return where the entries begin that were not delivered to a group (XINFO GROUPS)."""
    try:
        groups: Any = client.xinfo_groups(stream)
    except ResponseError as error:
        if "no such key" in str(error):
            return "-"
        raise
    ids = [as_str(each["last-delivered-id"]) for each in groups if as_str(each["name"]) == group]
    return f"({ids[0]}" if ids else "-"


def pending_in_stream(
    connection: Connection,
    stream: str,
    group: str,
    open_message: OpenMessage,
    start: str,
    size: int,
    *,
    handed_back: bool = False,
) -> tuple[list[QueuedTask], str | None]:
    """Read a page of messages that workers of a group hold, or that they handed back (EVALSHA).

    Args:
        connection: where the stream is.
        stream: Redis key of the stream.
        group: the group.
        open_message: see `read_dead_letter`.
        start: ID where the page begins.
        size: maximum number of messages.
        handed_back: whether to read those that were handed back. Default False.
    """
    reply: Any = connection.run_script(
        READ_PENDING,
        [stream],
        [group, HANDED_BACK, int(handed_back), start, size, MAX_BYTES],
    )
    next_start, rows = reply
    page = [
        _task_of(
            stream,
            as_str(entry_id),
            fields_of(fields),
            open_message,
            deliveries=int(deliveries),
            owner=None if handed_back else as_str(owner),
        )
        for entry_id, owner, deliveries, fields in rows
    ]
    return page, as_str(next_start) or None


def _task_of(
    stream: str, entry_id: str, fields: dict[str, bytes], open_message: OpenMessage, **more: Any
) -> QueuedTask:
    data, load = fields.get(DATA_FIELD), None
    if data is not None:
        data, load = open_message(data)
    return QueuedTask(
        queue_name=stream,
        id=entry_id,
        data=data,
        since=time_of_id(entry_id),
        load=load,
        **more,
    )


def waiting_in_list(
    connection: Connection, queue_name: str, open_message: OpenMessage, position: int, size: int
) -> tuple[list[QueuedTask], int | None]:
    """Read a page of messages of a list, the oldest first (LRANGE).

    Args:
        connection: where the list is.
        queue_name: Redis key of the list.
        open_message: see `read_dead_letter`.
        position: number of messages before the page.
        size: maximum number of messages.
    """
    rows: Any = connection.call(
        lambda client: client.lrange(queue_name, -position - size, -position - 1), key=queue_name
    )
    page = []
    for row in reversed(rows):
        data, load = open_message(as_bytes(row))
        page.append(QueuedTask(queue_name=queue_name, id="", data=data, load=load))
    return page, position + size if len(rows) >= size else None


def delayed_of_queue(
    connection: Connection,
    queue_name: str,
    open_message: OpenMessage,
    cursor: tuple[float, int],
    size: int,
) -> tuple[list[QueuedTask], tuple[float, int] | None]:
    """Read a page of delayed messages, the first that is due first (ZRANGE).

    Args:
        connection: where they are.
        queue_name: their queue.
        open_message: see `read_dead_letter`.
        cursor: ms of Unix time, and number of messages due at exactly this time before the page.
        size: maximum number of messages.
    """
    (due, position), key = cursor, delayed_key(queue_name)
    rows: Any = connection.call(lambda client: _by_score(client, key, due, position, size), key=key)
    page = []
    for member, score in rows:
        data, load = open_message(as_bytes(member)[UNIQUE_BYTES:])
        page.append(
            QueuedTask(queue_name=queue_name, id="", data=data, due=time_at(score), load=load)
        )
    if len(rows) < size:
        return page, None
    last = float(rows[-1][1])
    same = sum(score == last for _, score in rows)
    return page, (last, same + (position if last == due else 0))


def _by_score(client: Any, key: str, low: float, position: int, size: int) -> Any:
    """Return members of a sorted set with their scores, from a score on."""
    return client.zrange(key, low, "inf", byscore=True, offset=position, num=size, withscores=True)


def dead_letters_of_queue(
    connection: Connection, queue_name: str, open_message: OpenMessage, start: str, size: int
) -> tuple[list[DeadLetter], str | None]:
    """Read a page of dead letters, the oldest first (XRANGE).

    Args:
        connection: where they are.
        queue_name: their queue.
        open_message: see `read_dead_letter`.
        start: ID where the page begins.
        size: maximum number of dead letters.
    """
    key = dead_letters_key(queue_name)
    rows: Any = connection.call(lambda client: client.xrange(key, start, "+", size), key=key)
    page = [
        read_dead_letter(queue_name, entry.id, entry.fields, open_message)
        for entry in entries_of(key, rows)
    ]
    return page, f"({page[-1].id}" if len(page) >= size and page[-1].id != LARGEST_ID else None
