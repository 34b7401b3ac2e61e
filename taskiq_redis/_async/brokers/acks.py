"""Acknowledge stream entries, and delete them once every group has acknowledged them."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from taskiq_redis._async.batcher import Batcher, ParallelBatcher, Request
from taskiq_redis._async.connection import Connection, execute
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._core import lua
from taskiq_redis._core.redis_errors import ScriptRefusal, is_passing, is_passing_for_plain
from taskiq_redis.exceptions import CommandRefusedError, WrongKeyTypeError

#: s; how long an acknowledgement is retried: without it, the task runs again
RETRY_TIMEOUT = 60.0

ACKNOWLEDGE = lua.load("group_progress", "acknowledge")

logger = logging.getLogger("taskiq_redis")

EntryIds = list[str | bytes | int]
#: gets the stream, the group, the IDs of entries, and how long to retry, in s
Method = Callable[[str, str, EntryIds, float], Awaitable[None]]


class Acknowledger:
    """Acknowledges entries by the best method that the server and the user's ACL allow.

    Args:
        connection: where the streams are.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._retry_timeout = RETRY_TIMEOUT
        #: best first; those before the one that is used were refused
        self._all_methods: list[Method] = [self._xackdel, self._script, self._xack_undeleted]
        self._methods = self._all_methods
        self._refusal = ScriptRefusal(
            logger,
            "Acknowledged entries are deleted again (`trim()` deletes those that were kept before)",
        )
        #: by stream, group and whether to delete
        self._batchers: LoopLocal[dict[tuple[str, str, bool], ParallelBatcher[Request]]] = (
            LoopLocal(dict)
        )

    async def acknowledge(self, stream: str, group: str, entry_id: str, delete: bool) -> None:
        """Acknowledge an entry, and delete it once every group of the stream has acknowledged it.

        Args:
            stream: its stream.
            group: the group that acknowledges it.
            entry_id: its ID.
            delete: whether to delete it.

        Raises:
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis refuses it.
        """
        batchers, key = self._batchers.get(), (stream, group, delete)
        batcher = batchers.get(key)
        if batcher is None:
            send = partial(self._send, stream, group, delete)
            make = partial(Batcher[Request], self._connection, stream, send, linger=True)
            batcher = batchers.setdefault(key, ParallelBatcher(make))
        await batcher.pick().submit(Request((entry_id,), self._retry_timeout, len(entry_id)))

    async def _send(
        self,
        stream: str,
        group: str,
        delete: bool,
        _: int,
        requests: list[Request],
        retry_timeout: float,
    ) -> None:
        ids = [entry_id for request in requests for entry_id in request.args]
        if not delete:
            await self._xack(stream, group, ids, retry_timeout)
            return
        if self._refusal.active and self._refusal.may_retry():
            self._methods = self._all_methods
        methods = self._methods
        for index, method in enumerate(methods):
            try:
                await method(stream, group, ids, retry_timeout)
            except WrongKeyTypeError:
                raise
            except CommandRefusedError:
                if method is methods[-1]:
                    raise
                continue
            self._methods = methods[index:]
            if self._refusal.active and method is not methods[-1]:
                self._refusal.record_success()
            return

    async def _xackdel(self, stream: str, group: str, ids: EntryIds, retry_timeout: float) -> None:
        """Acknowledge and delete in one command, which Redis 8.2 and later have (XACKDEL)."""
        await self._connection.call(
            lambda client: execute(
                client, "XACKDEL", stream, group, "ACKED", "IDS", len(ids), *ids
            ),
            key=stream,
            is_retried=is_passing,
            retry_timeout=retry_timeout,
        )

    async def _script(self, stream: str, group: str, ids: EntryIds, retry_timeout: float) -> None:
        """Acknowledge, check the other groups, delete (EVALSHA of XACK, XINFO, XPENDING, XDEL)."""
        await self._connection.run_script(
            ACKNOWLEDGE,
            [stream],
            [group, *ids],
            is_retried=is_passing,
            retry_timeout=retry_timeout,
        )

    async def _xack_undeleted(
        self, stream: str, group: str, ids: EntryIds, retry_timeout: float
    ) -> None:
        """Acknowledge only, for a user who may not delete entries; warn once (XACK)."""
        await self._xack(stream, group, ids, retry_timeout)
        self._refusal.record_refusal(
            "Acknowledged entries are not deleted from the stream %r, which grows: this user may "
            "not delete them. Grant XACKDEL, or EVAL, EVALSHA, XINFO, XPENDING and XDEL; or keep "
            "the entries on purpose with `delete_acked=False`.",
            stream,
        )

    async def _xack(self, stream: str, group: str, ids: EntryIds, retry_timeout: float) -> None:
        await self._connection.call(
            lambda client: client.xack(stream, group, *ids),
            key=stream,
            is_retried=is_passing_for_plain,
            retry_timeout=retry_timeout,
        )
