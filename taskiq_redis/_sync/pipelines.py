# Generated from taskiq_redis/_async/pipelines.py by scripts/unasync.py; edit that.

"""Commands that share round trips: those that come at the same time, or are given together."""

import time
from collections.abc import Sequence
from typing import Any

from redis import RedisCluster
from redis.exceptions import NoScriptError

from taskiq_redis._core.lua import Script
from taskiq_redis._core.redis_errors import REDIS_ERRORS, is_transient, translate
from taskiq_redis._sync.batcher import BATCH_REQUESTS, Batch, Batcher, Request
from taskiq_redis._sync.connection import Client, Connection, execute


class Command(Request):
    """A command of one key; running it twice does no harm.

    Args:
        key: its key.
        words: the command as it stands.
        retry_timeout: s; how long to try.
        size: bytes; of what it sends, if that may be much.
    """

    __slots__ = ("key", "reply", "words")

    def __init__(
        self, key: str, words: Sequence[str | bytes | int], *, retry_timeout: float, size: int = 0
    ) -> None:
        super().__init__(time.monotonic() + retry_timeout, size)
        self.key = key
        self.words = words
        #: what Redis said
        self.reply: Any = None

    def run(self, client: Client) -> Any:
        """Run it alone, and return the reply."""
        return execute(client, *self.words)


class ScriptCall(Command):
    """A Lua script of one key; running it twice does no harm.

    Args:
        script: the script.
        key: its key.
        args: its ARGV.
        retry_timeout: s; how long to try.
        size: bytes; of what it sends, if that may be much.
    """

    __slots__ = ("script",)

    def __init__(
        self,
        script: Script,
        key: str,
        args: Sequence[str | bytes | int],
        *,
        retry_timeout: float,
        size: int = 0,
    ) -> None:
        words = ("EVALSHA", script.sha, 1, key, *args)
        super().__init__(key, words, retry_timeout=retry_timeout, size=size)
        self.script = script

    def run(self, client: Client) -> Any:
        """Run it alone; the server may not have seen it yet."""
        try:
            return super().run(client)
        except NoScriptError:
            _, _, *words = self.words
            return execute(client, "EVAL", self.script.source, *words)


class Pipeline(Batcher[Command]):
    """Sends commands to one server, which answers each.

    Args:
        connection: where to.
        key: what it is about, for errors.
        linger: whether a batch may wait for company.
    """

    def __init__(self, connection: Connection, key: str, *, linger: bool) -> None:
        super().__init__(connection, key)
        self.linger = linger

    def send(self, batch: Batch[Command], retry_timeout: float) -> None:
        """Send a batch: one command as it is, more of them in a pipeline."""
        send_all(self._connection, batch.entries, retry_timeout)


class CommandBatcher:
    """Lets callers share round trips; on a cluster, those that need the same node.

    Args:
        connection: where to.
        linger: whether a batch may wait for company.
    """

    def __init__(self, connection: Connection, *, linger: bool = False) -> None:
        self._connection = connection
        self._linger = linger
        self._pipelines: dict[str, Pipeline] = {}

    def run(self, command: Command) -> Any:
        """Run a command, and return the reply.

        Args:
            command: the command.

        Raises:
            ServerUnavailableError: Redis could not be reached for so long.
            CommandRefusedError: Redis doesn't do it.
        """
        self._check_key(command)
        node = self._node(command) if self._connection.sharded else ""
        pipeline = self._pipelines.get(node)
        if pipeline is None:
            pipeline = Pipeline(self._connection, command.key, linger=self._linger)
            pipeline = self._pipelines.setdefault(node, pipeline)
        pipeline.run(command)
        return command.reply

    def run_all(self, commands: Sequence[Command]) -> None:
        """Run commands that one caller has; each has its own reply.

        Args:
            commands: the commands.

        Raises:
            ServerUnavailableError: Redis could not be reached for so long.
            CommandRefusedError: Redis doesn't do one of them.
        """
        for command in commands:
            self._check_key(command)
        for first in range(0, len(commands), BATCH_REQUESTS):
            chunk = commands[first : first + BATCH_REQUESTS]
            send_all(self._connection, chunk, chunk[0].time_left())
        for command in commands:
            command.raise_error()

    def _check_key(self, command: Command) -> None:
        """Refuse a name that can't be sent, before it spoils the round trip of others."""
        try:
            command.key.encode()
        except UnicodeEncodeError as error:
            raise translate(error, str(self._connection.server), command.key) from error

    def _node(self, command: Command) -> str:
        """Name the node that has a key; if another has it by now, redis-py finds that one."""
        key = command.key

        def look(client: Any) -> str:
            node = client.get_node_from_key(key)
            return "" if node is None else str(node.name)

        # A client that lost its nodes asks which there are, for as long as the caller waits.
        retry_timeout = command.time_left()
        name: str = self._connection.call(look, key=key, retry_timeout=retry_timeout)
        return name


def send_all(connection: Connection, commands: Sequence[Command], retry_timeout: float) -> None:
    """Run commands, and leave with each what Redis said.

    Args:
        connection: where to.
        commands: what to run. What is answered already isn't sent again.
        retry_timeout: s; how long to try.
    """
    server = str(connection.server)

    def run(client: Client) -> None:
        if len(commands) == 1:
            commands[0].reply = commands[0].run(client)
            return
        todo = [command for command in commands if not command.answered]
        again = None
        for command, reply in zip(todo, _replies(client, todo), strict=True):
            if isinstance(reply, Exception) and is_transient(reply):
                again = reply
            else:
                _note(command, reply, server)
        if again is not None:
            raise again

    size = commands[0].size if len(commands) == 1 else 0
    connection.call(run, key=commands[0].key, size=size, retry_timeout=retry_timeout)


def _note(command: Command, reply: Any, server: str) -> None:
    if isinstance(reply, Exception):
        command.error = translate(reply, server, command.key)
    else:
        command.reply = reply
    command.answered = True


def _replies(client: Client, commands: Sequence[Command]) -> list[Any]:
    pipeline: Any = _pipeline_of(client)
    for command in commands:
        pipeline.execute_command(*command.words)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            try:
                replies[index] = commands[index].run(client)
            except REDIS_ERRORS as error:
                replies[index] = error
    return replies


def _pipeline_of(client: Any) -> Any:
    """Return a new pipeline; the method is untyped in redis-py."""
    return client.pipeline() if _is_cluster(client) else client.pipeline(transaction=False)


def _is_cluster(client: Any) -> bool:
    return isinstance(client, RedisCluster)
