"""Store and read results and progress."""

import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from taskiq import TaskiqResult
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends import progress_tracker
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._async.connection import Connection
from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.pipelines import Command, CommandBatcher
from taskiq_redis._async.progress import ProgressReader
from taskiq_redis._async.result_waiters import ResultListener, Waiter
from taskiq_redis._core import lua
from taskiq_redis._core.addresses import Server
from taskiq_redis._core.keys import progress_key, result_key
from taskiq_redis._core.options import ResultOptions
from taskiq_redis._core.redis_errors import (
    Predicate,
    is_passing,
    is_passing_for_plain,
    is_transient,
    refuses_any_write,
)
from taskiq_redis._core.refusals import ScriptRefusal
from taskiq_redis._core.signing import PREFIX, Purpose, Signing
from taskiq_redis._core.tracebacks import traceback_of
from taskiq_redis._core.wire import (
    decode_result,
    encode_progress,
    encode_result,
    error_result,
    serializer_for,
)
from taskiq_redis.exceptions import (
    CommandRefusedError,
    DeadLetterError,
    ResultDecodeError,
    ResultEncodeError,
    ResultIsMissingError,
    SignatureError,
    TaskIQRedisError,
    ValueTooLargeError,
    WrongKeyTypeError,
)

ReturnType = TypeVar("ReturnType")

#: a result, or why it can't be read
Outcome = TaskiqResult[Any] | TaskIQRedisError

STORE = lua.load("store")

#: s; how long storing a result is retried: taskiq acknowledges the task even if that fails
STORE_RETRY_TIMEOUT = 60.0

logger = logging.getLogger("taskiq_redis")


class ResultBackend(ProgressReader, Signing, AsyncResultBackend[ReturnType]):
    """A result backend on Redis.

    Args:
        server: address and connection options of Redis.
        options: see `ResultOptions`.
    """

    def __init__(self, server: Server, options: ResultOptions) -> None:
        self._connection = Connection(server, type(self), options.read_timeout)
        self.serializer: TaskiqSerializer = serializer_for(
            options.serializer, options.max_value_size
        )
        self.keep_results: bool = options.keep_results
        self.result_ex_time: int | None = options.result_ex_time
        self.result_px_time: int | None = options.result_px_time
        self.prefix_str: str | None = options.prefix_str
        self.store_tracebacks: bool = options.store_tracebacks
        self.max_value_size: int | None = options.max_value_size
        self.allowed_exceptions: tuple[type[BaseException], ...] = tuple(options.allowed_exceptions)
        self.read_timeout: float = options.read_timeout
        self._reads = LoopLocal(lambda: CommandBatcher(self._connection, bounded=True))
        self._writes = LoopLocal(lambda: CommandBatcher(self._connection, linger=True))
        self._listener = LoopLocal(
            lambda: ResultListener(self._connection), ResultListener.stop, ResultListener.drop
        )
        self._refusal = ScriptRefusal(logger, "Result notifications are on again")

    def __repr__(self) -> str:
        prefix = f" prefix {self.prefix_str!r}" if self.prefix_str else ""
        return f"<{type(self).__name__}{prefix} on {self._connection.server}>"

    async def startup(self) -> None:
        """Connect, to report errors early; calling it is optional.

        Raises:
            CommandRefusedError: Redis refuses this user or password.
        """
        await super().startup()
        await self._connection.check()

    async def shutdown(self) -> None:
        """Close the connections; using the backend again opens new ones."""
        listener = self._listener.pop()
        if listener is not None:
            await listener.stop()
        await self._connection.close()
        await super().shutdown()

    def _task_name(self, task_id: str) -> str:
        """Return the key of a result."""
        return result_key(task_id, self.prefix_str)

    async def set_result(self, task_id: str, result: TaskiqResult[ReturnType]) -> None:
        """Store a result, and notify its waiters (EVALSHA of SET and PUBLISH).

        It is retried for a minute while Redis can't be reached, is full, or refuses the user.
        Results that are stored at the same time share a round trip. A result that can't be
        serialized, or is too long, is stored as an error result that says so.

        Args:
            task_id: ID of the task.
            result: its return value or exception.

        Raises:
            WrongKeyTypeError: the key holds another type, and is not overwritten.
            ServerUnavailableError: Redis could not be reached for a minute.
            CommandRefusedError: Redis refuses it.
        """
        key = self._task_name(task_id)
        if self.store_tracebacks and result.error is not None and result.log is None:
            result = result.model_copy(update={"log": traceback_of(result.error)})
        try:
            data = self._encode(key, task_id, result)
            await self._store_and_notify(key, data, is_passing, is_passing_for_plain)
        except (ResultEncodeError, ValueTooLargeError) as error:
            logger.exception("The result of task %s is stored as an error.", task_id)
            data = self._encode(key, task_id, error_result(result, error))
            await self._store_and_notify(key, data, is_passing, is_passing_for_plain)

    def _encode(self, key: str, task_id: str, result: TaskiqResult[Any]) -> bytes:
        data = encode_result(self.serializer, task_id, result, self.max_value_size)
        return data if self._value_signer is None else self._sign_value("result", key, data)

    async def is_result_ready(self, task_id: str) -> bool:
        """Return whether a result is stored (EXISTS).

        Args:
            task_id: ID of the task.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        return bool(await self._submit("EXISTS", self._task_name(task_id)))

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[ReturnType]:
        """Read a result (GET); without `keep_results`, then delete it and its progress (UNLINK).

        If the caller is cancelled during the deletion, the result may be lost.

        Args:
            task_id: ID of the task.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            ResultIsMissingError: there is no result.
            ResultDecodeError: the value isn't a result; it is not deleted.
            WrongKeyTypeError: the key holds another type.
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._task_name(task_id)
        raw = await self._submit("GET", key)
        if raw is None:
            raise ResultIsMissingError(key=key)
        result = self._decode(key, raw, with_logs)
        await self._delete_unless_kept([task_id])
        return result

    async def get_results(
        self, task_ids: Sequence[str], with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Read the results that are stored, and leave out the others (GET).

        One that can't be read is an error result, whose error says why. Without `keep_results`, the
        others are deleted when all are read (UNLINK).

        Args:
            task_ids: IDs of the tasks.
            with_logs: whether to return the workers' logs. Default False.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        by_key = {self._task_name(task_id): task_id for task_id in task_ids}
        found = await self._read(with_logs, tuple(by_key), self.read_timeout)
        return await self._take({by_key[key]: outcome for key, outcome in found.items()})

    async def wait_result(
        self, task_id: str, timeout: float = -1.0, with_logs: bool = False
    ) -> TaskiqResult[ReturnType]:
        """Wait until a result is stored, and read it (SUBSCRIBE, GET).

        The worker publishes when it stores the result. All waiters of a process share one
        connection.

        Args:
            task_id: ID of the task.
            timeout: s; how long to wait. Default -1: without a limit.
            with_logs: whether to return the log that the worker collected. Default False.

        Raises:
            TaskiqResultTimeoutError: it wasn't stored in time.
            ResultDecodeError: the value isn't a result.
            WrongKeyTypeError: the key holds another type.
            ServerUnavailableError: Redis can't be reached.
        """
        outcome = (await self._wait([task_id], timeout, with_logs))[task_id]
        if isinstance(outcome, TaskIQRedisError):
            raise outcome
        await self._delete_unless_kept([task_id])
        return outcome

    async def wait_results(
        self, task_ids: Sequence[str], timeout: float = -1.0, with_logs: bool = False
    ) -> dict[str, TaskiqResult[ReturnType]]:
        """Wait until results are stored, and read them, in the order in which they were stored.

        One that can't be read is an error result, whose error says why.

        Args:
            task_ids: IDs of the tasks.
            timeout: s; how long to wait for all of them. Default -1: without a limit.
            with_logs: whether to return the logs that the workers collected. Default False.

        Raises:
            TaskiqResultTimeoutError: not all were stored in time. None is deleted, also without
                `keep_results`.
            ServerUnavailableError: Redis can't be reached.
        """
        return await self._take(await self._wait(task_ids, timeout, with_logs))

    async def _wait(
        self, task_ids: Sequence[str], timeout: float, with_logs: bool
    ) -> dict[str, Outcome]:
        """Wait until results are stored, and read them."""
        by_key = {self._task_name(task_id): task_id for task_id in task_ids}
        deadline = time.monotonic() + timeout if timeout > 0 else float("inf")

        waiter = Waiter(by_key, partial(self._read, with_logs), deadline)
        await waiter.read(tuple(by_key))
        if waiter.missing:
            await waiter.wait(self._listener.get())
            # A result may have been stored without a notification.
            await waiter.read(tuple(waiter.missing))
        if waiter.missing:
            raise TaskiqResultTimeoutError(timeout=timeout)
        return {by_key[key]: outcome for key, outcome in waiter.values.items()}

    async def _take(self, outcomes: dict[str, Outcome]) -> dict[str, TaskiqResult[ReturnType]]:
        """Return what was read as results, and delete what could be read, unless it is kept."""
        readable = [
            task_id
            for task_id, outcome in outcomes.items()
            if not isinstance(outcome, TaskIQRedisError)
        ]
        # After all are read: an error in between would lose results that were deleted.
        await self._delete_unless_kept(readable)
        return {
            task_id: _unreadable(outcome) if isinstance(outcome, TaskIQRedisError) else outcome
            for task_id, outcome in outcomes.items()
        }

    async def _read(
        self, with_logs: bool, keys: Sequence[str], retry_timeout: float
    ) -> dict[str, Outcome]:
        """Read the results that are stored, in batches of a hundred (GET).

        At its deadline, a caller doesn't join a batch of others, which may be in flight for long.
        """
        commands = [Command("GET", key, retry_timeout=retry_timeout) for key in keys]
        # The others are read, too.
        with suppress(WrongKeyTypeError):
            if len(commands) == 1 and retry_timeout > 0:
                await self._reads.get().submit(commands[0])
            else:
                await self._reads.get().execute(commands)
        return {
            command.key: self._outcome(command, with_logs)
            for command in commands
            if command.reply is not None or command.error is not None
        }

    def _outcome(self, command: Command, with_logs: bool) -> Outcome:
        """Return a result, or why it can't be read."""
        if isinstance(command.error, WrongKeyTypeError):
            return command.error
        command.raise_error()
        try:
            return self._decode(command.key, command.reply, with_logs)
        except ResultDecodeError as error:
            return error

    def _decode(self, key: str, raw: bytes, with_logs: bool) -> TaskiqResult[ReturnType]:
        result: TaskiqResult[ReturnType] = decode_result(
            self.serializer,
            key,
            self._open("result", key, raw),
            self.max_value_size,
            self.allowed_exceptions,
        )
        # Setting a field of a pydantic model is slow.
        if result.log is not None and not with_logs:
            result.log = None
        return result

    def _open(self, purpose: Purpose, key: str, raw: bytes) -> bytes:
        """Return a stored value without its signature, or raise `ResultDecodeError`."""
        if self._value_signer is None and not raw.startswith(PREFIX):
            return raw
        try:
            return self._verify_value(purpose, key, raw)
        except SignatureError as error:
            raise ResultDecodeError(key=key, kind=purpose, reason=error.problem) from error

    async def _submit(self, name: str, key: str) -> Any:
        command = Command(name, key, retry_timeout=self.read_timeout)
        return await self._reads.get().submit(command)

    async def _delete_unless_kept(self, task_ids: Iterable[str]) -> None:
        """Delete results that were read, unless results are kept."""
        if self.keep_results:
            return
        try:
            for task_id in task_ids:
                await self.delete_result(task_id)
        except TaskIQRedisError:
            # Raising this would lose the results: they are read, and some may be deleted.
            logger.exception("Results that were read could not be deleted.")

    async def delete_result(self, task_id: str) -> None:
        """Delete a result and its progress (UNLINK).

        Args:
            task_id: ID of the task.

        Raises:
            ServerUnavailableError: Redis can't be reached.
        """
        key = self._task_name(task_id)
        # The result is deleted last, so that a cancelled caller can call this again.
        await self._submit("UNLINK", progress_key(key))
        await self._submit("UNLINK", key)

    async def _delete_dead_letter_error(self, task_id: str, failed: bool) -> None:
        """Delete the error result of a dead letter, before its task is run again (GET, UNLINK).

        Args:
            task_id: ID of the task.
            failed: whether the task has failed, so that any error result is its own. If not, only a
                `DeadLetterError` is deleted.
        """
        key = self._task_name(task_id)
        results = await self._read(with_logs=False, keys=[key], retry_timeout=self.read_timeout)
        result = results.get(key)
        if isinstance(result, Exception):
            raise result
        if result is None:
            return
        if isinstance(result.error, DeadLetterError) or (failed and result.is_err):
            await self.delete_result(task_id)

    async def set_progress(
        self, task_id: str, progress: progress_tracker.TaskProgress[Any]
    ) -> None:
        """Store a progress, and notify those who follow the task (EVALSHA of SET and PUBLISH).

        It expires like a result.

        Args:
            task_id: ID of the task.
            progress: its progress.

        Raises:
            ResultEncodeError: it can't be serialized.
            ValueTooLargeError: it is longer than the server allows.
            WrongKeyTypeError: the key holds another type, and is not overwritten.
            ServerUnavailableError: Redis can't be reached.
        """
        key = progress_key(self._task_name(task_id))
        data = encode_progress(self.serializer, task_id, progress, self.max_value_size)
        data = self._sign_value("progress", key, data)
        await self._store_and_notify(key, data, is_transient, is_transient)

    def _expiry(self) -> tuple[str | int, ...]:
        if self.result_ex_time is not None:
            return "EX", self.result_ex_time
        return () if self.result_px_time is None else ("PX", self.result_px_time)

    async def _store_and_notify(
        self, key: str, data: bytes, is_retried: Predicate, is_retried_for_plain: Predicate
    ) -> None:
        """Store a value and publish that; only store it if scripts are refused.

        Args:
            key: Redis key, and name of the channel.
            data: the value.
            is_retried: returns whether to retry the script after an error.
            is_retried_for_plain: returns whether to retry SET after an error.
        """
        if self._refusal.active and not self._refusal.may_retry():
            await self._store(key, data, is_retried_for_plain)
            return
        try:
            command = self._store_command(is_retried, "EVALSHA", key, data, *self._expiry())
            command.script = STORE
            await self._writes.get().submit(command)
        except CommandRefusedError as error:
            # SET would be refused as well for a full memory or a disabled user.
            if error.__cause__ is not None and is_passing(error.__cause__):
                raise
            refusal = error
        else:
            if self._refusal.active:
                self._refusal.record_success()
            return
        # Outside of the handler, so that the refusal isn't the context of further errors.
        await self._store(key, data, is_retried_for_plain)
        # SET would have failed as well if the key was the reason.
        if not refuses_any_write(refusal):
            self._refusal.record_refusal(
                "Result notifications are off (EVALSHA refused: %s); clients poll instead. Grant "
                "EVAL, EVALSHA, PUBLISH and all channels.",
                refusal,
            )

    async def _store(self, key: str, data: bytes, is_retried: Predicate) -> None:
        # With GET, it fails on a key of another type instead of overwriting it.
        command = self._store_command(is_retried, "SET", key, data, *self._expiry(), "GET")
        await self._writes.get().submit(command)

    def _store_command(
        self, is_retried: Predicate, name: str, key: str, data: bytes, *args: str | int
    ) -> Command:
        return Command(
            name,
            key,
            data,
            *args,
            is_retried=is_retried,
            retry_timeout=STORE_RETRY_TIMEOUT,
            size=len(data),
        )


def _unreadable(error: TaskIQRedisError) -> TaskiqResult[Any]:
    """Return the result in place of one that can't be read."""
    return TaskiqResult(is_err=True, return_value=None, execution_time=0, error=error)
