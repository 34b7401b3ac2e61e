# Generated from taskiq_redis/_async/brokers/consumer_groups.py by scripts/unasync.py; edit that.

"""Consumer groups: where they begin to read, so that no message is missed or delivered again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from taskiq_redis._core.redis_errors import error_code
from taskiq_redis._core.wire import LARGEST_ID, as_str
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection


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

    def declare(self, stream: str) -> bool:
        """Create the group if it doesn't exist, and return whether it exists now.

        A group that was deleted at run time starts again where this worker last read
        (XINFO GROUPS, XGROUP CREATE).
        """
        return self.connection.call(lambda client: self._declare(client, stream), key=stream)

    def _declare(self, client: Client, stream: str) -> bool:
        exists = bool(client.exists(stream))
        if not exists and not self.mkstream:
            return False
        groups = self._groups(client, stream) if exists else []
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
            client.xgroup_create(stream, self.name, id=start, mkstream=self.mkstream)
        except ResponseError as error:
            if error_code(error) != "BUSYGROUP":
                raise
        self._record_last_id(stream, self._groups(client, stream))
        return True

    def _record_last_id(self, stream: str, groups: Sequence[dict[str, Any]]) -> None:
        for group in groups:
            if as_str(group["name"]) == self.name:
                self.last_ids[stream] = as_str(group["last-delivered-id"])

    def _groups(self, client: Client, stream: str) -> Sequence[dict[str, Any]]:
        groups: Sequence[dict[str, Any]] = client.xinfo_groups(stream)
        return groups


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
