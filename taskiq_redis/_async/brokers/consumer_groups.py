"""Consumer groups: where they begin to read, and how their consumers hand entries back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from taskiq_redis._async.clients import Client
from taskiq_redis._async.connection import Connection
from taskiq_redis._core import lua
from taskiq_redis._core.keys import workers_key
from taskiq_redis._core.redis_errors import error_code
from taskiq_redis._core.wire import LARGEST_ID, as_str

HAND_BACK = lua.load("hand_back")
DELETE_CONSUMERS = lua.load("delete_consumers")

#: the consumer to which entries are handed back; every worker claims from it
HANDED_BACK = "taskiq-redis:handed-back"
#: ms; idle time of entries that are handed back, long enough for any worker to claim them
HANDED_BACK_IDLE = 10_000_000
#: maximum number of entries per script, which blocks the server while it runs
CHUNK = 500
#: s; how long each command is retried; short, so that a worker can stop during an outage
RETRY_TIMEOUT = 2.0
#: ms; idle time after which a consumer without pending entries is deleted
CONSUMER_TTL = 600_000


@dataclass
class ConsumerGroup:
    """One consumer group on the streams that a worker listens to.

    Args:
        connection: where the streams are.
        name: name of the group.
        start_id: ID after which a new group begins to read; None for the rule of `StreamOptions`.
        mkstream: whether to create a stream that doesn't exist.
    """

    connection: Connection
    name: str
    start_id: str | None
    mkstream: bool
    #: by stream, the last ID that was delivered to the group, as far as this worker knows
    last_ids: dict[str, str] = field(default_factory=dict)

    async def declare(self, stream: str) -> bool:
        """Create the group if it doesn't exist, and return whether it exists now.

        A group that was deleted at run time starts again where this worker last read
        (XINFO GROUPS, XGROUP CREATE).
        """
        return await self.connection.call(lambda client: self._declare(client, stream), key=stream)

    async def _declare(self, client: Client, stream: str) -> bool:
        exists = bool(await client.exists(stream))
        if not exists and not self.mkstream:
            return False
        groups = await self._groups(client, stream) if exists else []
        if any(as_str(group["name"]) == self.name for group in groups):
            # A server that is full refuses XGROUP CREATE.
            self._record_last_id(stream, groups)
            return True
        # A stream that was deleted and created again may have lower IDs than before.
        last_read = self.last_ids.get(stream) if exists else None
        if last_read == LARGEST_ID:
            # Redis adds no entries after this ID, unless the stream was deleted and created again.
            last_read = None
        start = last_read or self.start_id or ("$" if groups else "0")
        try:
            await client.xgroup_create(stream, self.name, id=start, mkstream=self.mkstream)
        except ResponseError as error:
            if error_code(error) != "BUSYGROUP":
                raise
        self._record_last_id(stream, await self._groups(client, stream))
        return True

    def _record_last_id(self, stream: str, groups: Sequence[dict[str, Any]]) -> None:
        for group in groups:
            if as_str(group["name"]) == self.name:
                self.last_ids[stream] = as_str(group["last-delivered-id"])

    async def _groups(self, client: Client, stream: str) -> Sequence[dict[str, Any]]:
        groups: Sequence[dict[str, Any]] = await client.xinfo_groups(stream)
        return groups

    async def delete_stopped(self, connection: Connection, stream: str, leaving: str) -> None:
        """Delete consumers that stopped and have no pending entries (EVALSHA).

        Args:
            connection: runs the script.
            stream: the stream.
            leaving: name of a consumer that stops now, or ''.
        """
        await connection.run_script(
            DELETE_CONSUMERS,
            [stream, workers_key(stream, self.name)],
            [self.name, leaving, CONSUMER_TTL],
            retry_timeout=RETRY_TIMEOUT,
            waits_for_slot=False,
        )


@dataclass(frozen=True)
class Consumer:
    """A consumer of a group, and its limits.

    Args:
        group: its group.
        name: its name in the group.
        has_own_name: whether the name is unique, so that no other process uses it.
        count: maximum number of messages per read; None for no limit.
        idle_timeout: ms; duration of its leases.
        claim_count: maximum number of messages per claim.
        max_deliveries: number of failed deliveries that make a dead letter; None for no limit.
    """

    group: ConsumerGroup
    name: str
    has_own_name: bool
    count: int | None
    idle_timeout: int
    claim_count: int
    max_deliveries: int | None

    @property
    def lease(self) -> float:
        """Duration of its leases, in s."""
        return self.idle_timeout / 1000

    async def hand_back(
        self,
        connection: Connection,
        stream: str,
        ids: Sequence[str],
        *,
        failed: bool,
        idle: int = HANDED_BACK_IDLE,
    ) -> None:
        """Hand entries back, so that any worker can claim them at once (EVALSHA).

        Args:
            connection: runs the script.
            stream: the stream.
            ids: IDs of the entries; those that are not pending for this consumer are ignored.
            failed: whether to count the delivery as failed.
            idle: ms; the idle time that the entries get.
        """
        for first in range(0, len(ids), CHUNK):
            await connection.run_script(
                HAND_BACK,
                [stream],
                [
                    self.group.name,
                    self.name,
                    HANDED_BACK,
                    int(failed),
                    idle,
                    *ids[first : first + CHUNK],
                ],
                # After a lost reply, this worker may have claimed a failed entry again already.
                repeatable=not failed,
                retry_timeout=RETRY_TIMEOUT,
            )
