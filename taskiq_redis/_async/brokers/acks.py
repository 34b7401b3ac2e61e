"""How a stream gets rid of what is done: acknowledged, and deleted once all groups have done it."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from taskiq_redis._async.batcher import Batch, Batcher, Request
from taskiq_redis._async.connection import Connection, execute
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core import lua
from taskiq_redis.exceptions import CommandRefusedError, WrongKeyTypeError

#: s; how long an acknowledgement is tried: without it, the task would run again
RETRY_TIMEOUT = 60.0

ACKNOWLEDGE = lua.load("group_progress", "acknowledge")

logger = logging.getLogger("taskiq_redis")

Way = Callable[[str, str, list[str], float], Awaitable[None]]


class Acknowledgement:
    """Acknowledges one message; it exists as long as somebody can call it, or has called it.

    A function would be gone as soon as it is called, while what it has begun goes on.

    Args:
        acknowledge: does it.
        end: is called when it is done.
    """

    def __init__(self, acknowledge: Callable[[], Awaitable[None]], end: Callable[[], None]) -> None:
        self._acknowledge = acknowledge
        self._end = end

    async def __call__(self) -> None:
        await self._acknowledge()
        self._end()


class Ack(Request):
    """An acknowledgement on its way.

    Args:
        deadline: when the caller wants to hear of it at the latest, by the monotonic clock.
        entry_id: what is acknowledged.
    """

    __slots__ = ("entry_id",)

    def __init__(self, deadline: float, entry_id: str) -> None:
        super().__init__(deadline, len(entry_id))
        self.entry_id = entry_id


class Acks(Batcher[Ack]):
    """Acknowledges entries of one stream, as many as there are by one command.

    Args:
        connection: where the stream is.
        stream: its key.
        acknowledge: does it.
    """

    linger = True

    def __init__(
        self,
        connection: Connection,
        stream: str,
        acknowledge: Callable[[list[str], float], Awaitable[None]],
    ) -> None:
        super().__init__(connection, stream)
        self._acknowledge = acknowledge

    async def send(self, batch: Batch[Ack], retry_timeout: float) -> None:
        """Acknowledge a batch."""
        await self._acknowledge([ack.entry_id for ack in batch.entries], retry_timeout)


class Acknowledger:
    """Acknowledges entries in the best way that the server and this user's rights allow.

    Args:
        connection: where the streams are.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: the best first; the first that isn't refused is kept
        self._ways: list[Way] = [self._in_one_command, self._by_script, self._without_deletion]
        #: those of one event loop, by stream, group and whether to delete
        self._acks: LoopLocal[dict[tuple[str, str, bool], Acks]] = LoopLocal(dict)

    async def acknowledge(self, stream: str, group: str, entry_id: str, delete: bool) -> None:
        """Acknowledge an entry, and delete it if all groups of the stream have acknowledged it.

        Args:
            stream: where it is.
            group: which group has done it.
            entry_id: its id.
            delete: whether it may be deleted.

        Raises:
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis doesn't do it.
        """
        by_key, key = self._acks.get(), (stream, group, delete)
        acks = by_key.get(key)
        if acks is None:
            acknowledge = partial(self._acknowledge, stream, group, delete)
            acks = by_key.setdefault(key, Acks(self._connection, stream, acknowledge))
        await acks.run(Ack(time.monotonic() + RETRY_TIMEOUT, entry_id))

    async def _acknowledge(
        self, stream: str, group: str, delete: bool, ids: list[str], retry_timeout: float
    ) -> None:
        if not delete:
            await self._acknowledge_only(stream, group, ids, retry_timeout)
            return
        ways = self._ways
        for number, way in enumerate(ways):
            try:
                await way(stream, group, ids, retry_timeout)
            except WrongKeyTypeError:
                raise
            except CommandRefusedError:
                if way is ways[-1]:
                    raise
                continue
            self._ways = ways[number:]
            return

    async def _in_one_command(
        self, stream: str, group: str, ids: list[str], retry_timeout: float
    ) -> None:
        """Let the server do it, if it is Redis 8.2 or later (XACKDEL)."""
        await self._connection.call(
            lambda client: execute(
                client, "XACKDEL", stream, group, "ACKED", "IDS", len(ids), *ids
            ),
            key=stream,
            retry_timeout=retry_timeout,
        )

    async def _by_script(
        self, stream: str, group: str, ids: list[str], retry_timeout: float
    ) -> None:
        """Find out who still needs the entries (EVALSHA of XACK, XINFO, XPENDING, XDEL)."""
        await self._connection.run_script(
            ACKNOWLEDGE, [stream], [group, *ids], retry_timeout=retry_timeout
        )

    async def _without_deletion(
        self, stream: str, group: str, ids: list[str], retry_timeout: float
    ) -> None:
        """Do without, if this user may do no more (XACK)."""
        first_time = self._ways[0] != self._without_deletion
        await self._acknowledge_only(stream, group, ids, retry_timeout)
        if first_time:
            logger.warning(
                "Finished tasks stay in the stream %r, which grows: this user may not delete them. "
                "Give it the right to XACKDEL, or to EVAL, EVALSHA, XINFO, XPENDING and XDEL; or "
                "say that they are to stay by `delete_acked=False`.",
                stream,
            )

    async def _acknowledge_only(
        self, stream: str, group: str, ids: list[str], retry_timeout: float
    ) -> None:
        await self._connection.call(
            lambda client: client.xack(stream, group, *ids), key=stream, retry_timeout=retry_timeout
        )
