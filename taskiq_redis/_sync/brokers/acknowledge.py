# Generated from taskiq_redis/_async/brokers/acknowledge.py by scripts/unasync.py; edit that.

"""How a stream gets rid of what is done: acknowledged, and deleted once all groups have done it."""

import logging
from collections.abc import Callable

from taskiq_redis._core import lua
from taskiq_redis._sync.connection import Connection, execute
from taskiq_redis.exceptions import CommandRefusedError, WrongKeyTypeError

#: s; how long an acknowledgement is tried: without it, the task would run again
PATIENCE = 60.0

ACKNOWLEDGE = lua.load("needed", "acknowledge")

logger = logging.getLogger("taskiq_redis")

Way = Callable[[str, str, list[str]], None]


class Acknowledgement:
    """Acknowledges one message; it exists as long as somebody can call it, or has called it.

    A function would be gone as soon as it is called, while what it has begun goes on.

    Args:
        run: does it.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run

    def __call__(self) -> None:
        self._run()


class Acknowledger:
    """Acknowledges entries in the best way that the server and this user's rights allow.

    Args:
        connection: where the streams are.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        #: the best first; the first that isn't refused is kept
        self._ways: list[Way] = [self._in_one_command, self._by_script, self._without_deletion]

    def acknowledge(self, stream: str, group: str, ids: list[str], delete: bool) -> None:
        """Acknowledge entries, and delete those that all groups of the stream have acknowledged.

        Args:
            stream: where they are.
            group: which group has done them.
            ids: their ids.
            delete: whether to delete any.

        Raises:
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis doesn't do it.
        """
        if not delete:
            self._acknowledge_only(stream, group, ids)
            return
        ways = self._ways
        for number, way in enumerate(ways):
            try:
                way(stream, group, ids)
            except WrongKeyTypeError:
                raise
            except CommandRefusedError:
                if way is ways[-1]:
                    raise
                continue
            self._ways = ways[number:]
            return

    def _in_one_command(self, stream: str, group: str, ids: list[str]) -> None:
        """Let the server do it, if it is Redis 8.2 or later (XACKDEL)."""
        self._connection.call(
            lambda client: execute(
                client, "XACKDEL", stream, group, "ACKED", "IDS", len(ids), *ids
            ),
            key=stream,
            patience=PATIENCE,
        )

    def _by_script(self, stream: str, group: str, ids: list[str]) -> None:
        """Find out who still needs the entries (EVALSHA of XACK, XINFO, XPENDING, XDEL)."""
        self._connection.run_script(ACKNOWLEDGE, [stream], [group, *ids], patience=PATIENCE)

    def _without_deletion(self, stream: str, group: str, ids: list[str]) -> None:
        """Do without, if this user may do no more (XACK)."""
        first_time = self._ways[0] != self._without_deletion
        self._acknowledge_only(stream, group, ids)
        if first_time:
            logger.warning(
                "Finished tasks stay in the stream %r, which grows: this user may not delete them. "
                "Give it the right to XACKDEL, or to EVAL, EVALSHA, XINFO, XPENDING and XDEL; or "
                "say that they are to stay by `delete_acked=False`.",
                stream,
            )

    def _acknowledge_only(self, stream: str, group: str, ids: list[str]) -> None:
        self._connection.call(
            lambda client: client.xack(stream, group, *ids), key=stream, patience=PATIENCE
        )
