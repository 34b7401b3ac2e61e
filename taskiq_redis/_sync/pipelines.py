# Generated from taskiq_redis/_async/pipelines.py by scripts/unasync.py; edit that.

"""Run the commands of concurrent callers together, in pipelines."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from redis import RedisCluster
from redis.exceptions import NoScriptError

from taskiq_redis._core.lua import Script
from taskiq_redis._core.redis_errors import REDIS_ERRORS, Predicate, is_transient, translate
from taskiq_redis._sync.batcher import (
    BATCH_REQUESTS,
    Batcher,
    ParallelBatcher,
    Request,
    drop_abandoned,
)
from taskiq_redis._sync.clients import Client
from taskiq_redis._sync.connection import Connection, evaluate, execute
from taskiq_redis.exceptions import CommandRefusedError


class Command(Request):
    """A command or a Lua script with one key, which may run twice.

    Args:
        key: its key.
        name: name of the command; not used for a script.
        args: further arguments of the command, or ARGV of the script.
        script: the script to run instead of a command.
        is_retried: returns whether to retry it after an error.
        retry_timeout: s; how long to retry.
        size: bytes; length of its arguments, if they may be long.
    """

    __slots__ = ("is_retried", "key", "name", "reply", "script")

    def __init__(
        self,
        name: str,
        key: str,
        *args: str | bytes | int,
        script: Script | None = None,
        is_retried: Predicate = is_transient,
        retry_timeout: float,
        size: int = 0,
    ) -> None:
        super().__init__(args, retry_timeout, size)
        self.name = name
        self.key = key
        self.script = script
        self.is_retried = is_retried
        #: the reply of Redis
        self.reply: Any = None

    def run(self, client: Client) -> Any:
        """Run it without a pipeline, and return the reply."""
        if self.script is None:
            return execute(client, self.name, self.key, *self.args)
        return evaluate(self.script, [self.key], self.args, client)

    def add_to(self, pipeline: Any) -> None:
        """Add it to a pipeline, which can't load a script that the server doesn't have."""
        if self.script is None:
            pipeline.execute_command(self.name, self.key, *self.args)
        else:
            pipeline.execute_command("EVALSHA", self.script.sha, 1, self.key, *self.args)


class CommandBatcher:
    """Sends the commands of concurrent callers in batches; on a cluster, by node.

    Args:
        connection: where to send.
        linger: whether a batch may wait for more commands.
        bounded: see `call` of the connection.
    """

    def __init__(
        self, connection: Connection, *, linger: bool = False, bounded: bool = False
    ) -> None:
        self._connection = connection
        self._bounded = bounded
        self._linger = linger
        self._batchers: dict[str, ParallelBatcher[Command]] = {}

    def submit(self, command: Command) -> Any:
        """Run a command in the next batch, and return the reply.

        Args:
            command: the command.

        Raises:
            ServerUnavailableError: Redis could not be reached for its retry timeout.
            CommandRefusedError: Redis refuses it.
        """
        self._check_key(command)
        node = self._node_of(command) if self._connection.sharded else ""
        batcher = self._batchers.get(node)
        if batcher is None:
            make = partial(
                Batcher[Command],
                self._connection,
                command.key,
                self._send,
                linger=self._linger,
            )
            batcher = self._batchers.setdefault(node, ParallelBatcher(make))
        batcher.pick().submit(command)
        return command.reply

    def execute(self, commands: Sequence[Command]) -> None:
        """Run the commands of one caller at once, not with those of others; each gets its reply.

        Args:
            commands: the commands.

        Raises:
            ServerUnavailableError: Redis could not be reached for their retry timeout.
            CommandRefusedError: Redis refuses one of them.
        """
        for command in commands:
            self._check_key(command)
        for first in range(0, len(commands), BATCH_REQUESTS):
            batch = list(commands[first : first + BATCH_REQUESTS])
            try:
                self._send(0, batch, batch[0].time_left())
            except CommandRefusedError as error:
                if len(batch) > 1:
                    raise
                batch[0].error = error
        for command in commands:
            command.raise_error()

    def _check_key(self, command: Command) -> None:
        """Refuse a key that can't be encoded, which would make the whole batch fail."""
        try:
            command.key.encode()
        except UnicodeEncodeError as error:
            raise translate(error, str(self._connection.server), command.key) from error

    def _node_of(self, command: Command) -> str:
        """Return the name of the node of a key, as far as the cluster client knows."""
        key = command.key

        def find(client: Any) -> str:
            node = client.get_node_from_key(key)
            return "" if node is None else str(node.name)

        # A cluster client without nodes reloads them, until the retry timeout of the command.
        name: str = self._connection.call(
            find, key=key, retry_timeout=command.time_left(), bounded=self._bounded
        )
        return name

    def _send(self, _: int, commands: list[Command], retry_timeout: float) -> None:
        """Send a batch: a single command as it is, more in a pipeline."""
        if len(commands) == 1:
            commands[0].reply = self._connection.call(
                commands[0].run,
                key=commands[0].key,
                size=commands[0].size,
                is_retried=commands[0].is_retried,
                retry_timeout=retry_timeout,
                bounded=self._bounded,
            )
            return

        def run(client: Client) -> None:
            self._run_pipeline(client, commands)

        def is_retried(error: BaseException) -> bool:
            return any(command.is_retried(error) for command in commands)

        self._connection.call(
            run,
            key=commands[0].key,
            is_retried=is_retried,
            retry_timeout=retry_timeout,
            bounded=self._bounded,
        )

    def _run_pipeline(self, client: Client, commands: list[Command]) -> None:
        """Store the replies and errors of unanswered commands; raise a transient error to retry."""
        transient = None
        drop_abandoned(commands)
        todo = [command for command in commands if not command.answered]
        for command, reply in zip(todo, _replies(client, todo), strict=True):
            if not isinstance(reply, Exception):
                command.reply = reply
            elif command.is_retried(reply):
                transient = reply
                continue
            else:
                command.error = translate(reply, str(self._connection.server), command.key)
            command.answered = True
        if transient is not None:
            raise transient


class ScriptCall(NamedTuple):
    """A Lua script and its arguments."""

    script: Script
    #: on a cluster, they share a slot
    keys: list[str]
    args: list[str | bytes | int]


def evaluate_together(client: Any, *calls: ScriptCall) -> list[Any]:
    """Run Lua scripts in one round trip, and return the reply or exception of each.

    Args:
        client: runs them.
        calls: the scripts; on a cluster, all their keys share a slot.
    """
    pipeline = _pipeline_of(client)
    for script, keys, args in calls:
        pipeline.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            try:
                replies[index] = evaluate(*calls[index], client)
            except REDIS_ERRORS as error:
                replies[index] = error
    return replies


def _pipeline_of(client: Any) -> Any:
    cluster = isinstance(client, RedisCluster)
    return client.pipeline() if cluster else client.pipeline(transaction=False)


def _replies(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Run commands in a pipeline, and return the reply or exception of each."""
    pipeline = _pipeline_of(client)
    for command in commands:
        command.add_to(pipeline)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    for index, reply in enumerate(replies):
        if isinstance(reply, NoScriptError):
            try:
                replies[index] = commands[index].run(client)
            except REDIS_ERRORS as error:
                replies[index] = error
    return replies
