# Generated from taskiq_redis/_async/brokers/consumer_groups.py by scripts/unasync.py; edit that.

"""How consumer groups come into being, so that no message is missed and none is replayed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from taskiq_redis._core.redis_errors import error_code
from taskiq_redis._core.wire import as_str
from taskiq_redis._sync.connection import Client, Connection


@dataclass
class ConsumerGroup:
    """One consumer group on the streams that a worker listens to.

    Args:
        connection: where the streams are.
        name: the group's name.
        start_id: where a new group begins to read, or None for the rule of `StreamOptions`.
        mkstream: whether to create a stream that doesn't exist.
    """

    connection: Connection
    name: str
    start_id: str | None
    mkstream: bool
    #: by stream, the last entry that this worker knows to be delivered to the group
    last_ids: dict[str, str] = field(default_factory=dict)

    def declare(self, stream: str) -> bool:
        """Create the group if it isn't there, and tell whether it is there now.

        A group that vanished at run time begins again where this worker last read (XINFO GROUPS,
        XGROUP CREATE).
        """
        return self.connection.call(lambda client: self._declare(client, stream), key=stream)

    def _declare(self, client: Client, stream: str) -> bool:
        exists = bool(client.exists(stream))
        if not exists and not self.mkstream:
            return False
        groups = self._groups(client, stream) if exists else []
        # The ids of a stream that begins anew may be lower than those of the one that was deleted.
        last_read = self.last_ids.get(stream) if exists else None
        begin = last_read or self.start_id or ("$" if groups else "0")
        try:
            client.xgroup_create(stream, self.name, id=begin, mkstream=self.mkstream)
        except ResponseError as error:
            if error_code(error) != "BUSYGROUP":
                raise
        for group in self._groups(client, stream):
            if as_str(group["name"]) == self.name:
                self.last_ids[stream] = as_str(group["last-delivered-id"])
        return True

    def _groups(self, client: Client, stream: str) -> Sequence[dict[str, Any]]:
        groups: Sequence[dict[str, Any]] = client.xinfo_groups(stream)
        return groups
