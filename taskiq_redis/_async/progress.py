"""Read the status and the progress of tasks from a result backend, and follow the progress."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any

from taskiq import TaskiqResult
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.depends import progress_tracker
from taskiq.exceptions import TaskiqResultTimeoutError

from taskiq_redis._async.loop_local import LoopLocal
from taskiq_redis._async.pipelines import Command, CommandBatcher
from taskiq_redis._async.result_waiters import READ_RETRY_TIMEOUT, ResultListener
from taskiq_redis._core.keys import progress_key
from taskiq_redis._core.signing import Purpose
from taskiq_redis._core.task_status import UNKNOWN, TaskState, TaskStatus
from taskiq_redis._core.wire import decode_progress
from taskiq_redis._runtime.aio import OneShot
from taskiq_redis.exceptions import DeadLetterError, ResultDecodeError


class ProgressReader:
    """The part of a result backend that reads progress, and the status of tasks."""

    serializer: TaskiqSerializer
    max_value_size: int | None
    read_timeout: float
    _reads: LoopLocal[CommandBatcher]
    _listener: LoopLocal[ResultListener]

    def _task_name(self, task_id: str) -> str:
        raise NotImplementedError

    def _open(self, purpose: Purpose, key: str, raw: bytes) -> bytes:
        raise NotImplementedError

    def _decode(self, key: str, raw: bytes, with_logs: bool) -> TaskiqResult[Any]:
        raise NotImplementedError

    async def get_progress(self, task_id: str) -> progress_tracker.TaskProgress[Any] | None:
        """Read a progress (GET); None if there is none.

        Args:
            task_id: ID of the task.

        Raises:
            ResultDecodeError: the value isn't a progress.
            WrongKeyTypeError: the key holds another type.
            ServerUnavailableError: Redis can't be reached.
        """
        key = progress_key(self._task_name(task_id))
        command = Command("GET", key, retry_timeout=self.read_timeout)
        return self._decode_progress(key, await self._reads.get().submit(command))

    def _decode_progress(
        self, key: str, raw: bytes | None
    ) -> progress_tracker.TaskProgress[Any] | None:
        if raw is None:
            return None
        data = self._open("progress", key, raw)
        return decode_progress(self.serializer, key, data, self.max_value_size)

    async def _task_status(self, task_id: str) -> TaskStatus:
        """Return the status of a task by its result or progress, without deleting the result."""
        key = self._task_name(task_id)
        raw, progress = await self._run(
            ("GET", key), ("EXISTS", progress_key(key)), retry_timeout=self.read_timeout
        )
        if raw is None:
            return TaskStatus(TaskState.RUNNING) if progress else UNKNOWN
        # One that can't be read is a result, too.
        with suppress(ResultDecodeError):
            if isinstance(self._decode(key, raw, with_logs=False).error, DeadLetterError):
                return TaskStatus(TaskState.DEAD)
        return TaskStatus(TaskState.DONE)

    async def _run(self, *commands: tuple[str, str], retry_timeout: float) -> Sequence[Any]:
        """Run commands with one key in one round trip, and return their replies."""
        batch = [Command(name, key, retry_timeout=retry_timeout) for name, key in commands]
        await self._reads.get().execute(batch)
        return [command.reply for command in batch]

    async def follow(
        self, task_id: str, timeout: float | None = None
    ) -> AsyncGenerator[progress_tracker.TaskProgress[Any], None]:
        """Yield the progress of a task whenever it changes, until its result is stored.

        The worker publishes when it stores a progress or a result (SUBSCRIBE, EXISTS, GET). All
        that wait for results or follow tasks in a process share one connection. While you work
        with one progress, later ones replace each other, so that the next one is the latest.

        Args:
            task_id: ID of the task.
            timeout: s; how long to wait for the result. Default None: without a limit.

        Raises:
            TaskiqResultTimeoutError: the result wasn't stored in time.
            ResultDecodeError: the value isn't a progress.
            WrongKeyTypeError: a key holds another type.
            ServerUnavailableError: Redis can't be reached.
        """
        result_key = self._task_name(task_id)
        key = progress_key(result_key)
        limit = float("inf") if timeout is None or timeout <= 0 else timeout
        deadline, last = time.monotonic() + limit, None
        listener, wakeup = self._listener.get(), _Wakeup(result_key)
        try:
            is_added = is_last = False
            while True:
                left = deadline - time.monotonic()
                # In this order, so that nothing is reported between the two.
                stored, raw = await self._run(
                    ("EXISTS", result_key),
                    ("GET", key),
                    retry_timeout=max(0.0, min(READ_RETRY_TIMEOUT, left)),
                )
                # With `keep_results=False`, a reader may have deleted the result already.
                stored = stored or wakeup.is_published
                if not stored and not is_added:
                    is_added = True
                    await listener.add([result_key, key], wakeup.notify, checked=False)
                if raw is not None and raw != last:
                    last = raw
                    progress = self._decode_progress(key, raw)
                    if progress is not None:
                        yield progress
                if stored:
                    return
                if is_last:
                    raise TaskiqResultTimeoutError(timeout=timeout)
                # The ACL may have changed, so that it may subscribe.
                listener.start()
                left = deadline - time.monotonic()
                # Workers of older versions don't publish, so it looks from time to time, too.
                await wakeup.wait(max(0.0, min(listener.interval, left)))
                is_last = time.monotonic() >= deadline
        finally:
            listener.remove([result_key, key], wakeup.notify)


class _Wakeup:
    """Wakes one waiter, for any number of notifications since it waited last.

    Args:
        result_key: Redis key of the result.
    """

    def __init__(self, result_key: str) -> None:
        self._result_key = result_key
        self._signal = OneShot()
        #: whether the worker has published that it stored the result
        self.is_published = False

    def notify(self, key: str, published: bool) -> None:
        """Wake the waiter; any thread may call this."""
        if published and key == self._result_key:
            self.is_published = True
        self._signal.set()

    async def wait(self, timeout: float) -> None:
        """Wait for a notification, `timeout` seconds at most."""
        await self._signal.wait(timeout)
        self._signal = OneShot()
