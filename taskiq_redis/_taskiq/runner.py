"""Run tasks in this process by taskiq's receiver, for brokers without a server."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from taskiq import AsyncBroker, BrokerMessage, TaskiqMessage, TaskiqResult
from taskiq.exceptions import NoResultError, UnknownTaskError
from taskiq.receiver import Receiver

from taskiq_redis._core.delays import delay_of
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._taskiq.caller_thread import CallerThread, InPlaceExecutor, this_thread
from taskiq_redis._taskiq.errors import TaskRaised
from taskiq_redis._taskiq.portal import PortalCall, is_portal_thread, start_on_portal

#: attribute of a `kick` that `join_task_groups` has replaced
_JOINS_GROUP = "joins_task_group"

logger = logging.getLogger("taskiq_redis")


class _TaskGroup:
    """A task that was sent from outside, and the tasks that are sent while it runs.

    Args:
        caller: the thread that waits for it; None for async code, and in the background.
    """

    def __init__(self, caller: CallerThread | None) -> None:
        self.caller = caller
        self._loop = asyncio.get_running_loop()
        self._children: set[asyncio.Task[None]] = set()
        self._attempts: dict[str, object] = {}
        self._is_open = True
        self.results: dict[str, TaskiqResult[Any]] = {}

    def is_open_here(self) -> bool:
        """Return whether it runs on the running event loop of this thread."""
        return self._is_open and asyncio._get_running_loop() is self._loop

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run another task in the group."""
        self._children.add(asyncio.create_task(coroutine))

    async def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a task and those that it sends; raise the first error of the receiver."""
        token = _group.set(self)
        try:
            self.spawn(coroutine)
            failures: list[BaseException] = []
            while self._children:
                ended, self._children = self._children, set()
                outcomes = await asyncio.gather(*ended, return_exceptions=True)
                failures += [each for each in outcomes if isinstance(each, BaseException)]
            if failures:
                raise failures[0]
        finally:
            self._is_open = False
            _group.reset(token)
            for child in self._children:
                child.cancel()

    def begin_attempt(self, task_id: str) -> Callable[[TaskiqResult[Any]], None]:
        """Return a function that records the result of an attempt, unless another one has begun."""
        attempt = self._attempts[task_id] = object()

        def record(result: TaskiqResult[Any]) -> None:
            if self._attempts[task_id] is attempt:
                self.results[task_id] = result

        return record


_group: ContextVar[_TaskGroup | None] = ContextVar("taskiq_redis_task_group", default=None)


def _open_group() -> _TaskGroup | None:
    group = _group.get()
    return group if group is not None and group.is_open_here() else None


def _caller() -> CallerThread | None:
    group = _open_group()
    return None if group is None else group.caller


class _Receiver(Receiver):
    """taskiq's receiver, which prepares a task when it is sent, not all tasks of the process."""

    def __init__(self, broker: AsyncBroker, executor: InPlaceExecutor, **options: Any) -> None:
        # The constructor would prepare all tasks of the broker, so it gets one without tasks.
        no_tasks: Any = SimpleNamespace(get_all_tasks=dict)
        # The limit is for `listen`, which isn't used. Without one, taskiq warns.
        super().__init__(no_tasks, executor, max_async_tasks=1, **options)
        self.broker: AsyncBroker = broker
        #: functions by the names of their tasks, as they were prepared
        self._prepared: dict[str, Callable[..., Any]] = {}

    async def run_task(
        self, target: Callable[..., Any], message: TaskiqMessage, *args: Any, **kwargs: Any
    ) -> TaskiqResult[Any]:
        """Run a task, and record its result for the sender."""
        if self._prepared.get(message.task_name) is not target:
            # taskiq prepares each name once. The next test may declare another function by it.
            self._prepared[message.task_name] = target
            self.known_tasks.discard(message.task_name)
        group = _open_group()
        if group is None:
            return await super().run_task(target, message, *args, **kwargs)
        record = group.begin_attempt(message.task_id)
        result = await super().run_task(target, message, *args, **kwargs)
        record(result)
        return result


class Runner:
    """Runs messages as a worker of a broker would.

    Args:
        broker: the async broker that the tasks see in their context.
        pool_size: number of threads for sync tasks that don't run in the sender's thread.
        in_place: whether sending a task waits for its end. Default True.
        raise_errors: whether sending a task raises what the task raised. Default False.
        hold_delayed: whether to keep delayed tasks for `take_held`. Default False: delays are
            skipped.
        options: options of taskiq's receiver.
    """

    def __init__(
        self,
        broker: AsyncBroker,
        *,
        pool_size: int,
        in_place: bool = True,
        raise_errors: bool = False,
        hold_delayed: bool = False,
        **options: Any,
    ) -> None:
        self.broker = broker
        self.in_place = in_place
        self.raise_errors = raise_errors
        self.hold_delayed = hold_delayed
        self._executor = InPlaceExecutor(pool_size, _caller)
        self._receiver = _Receiver(broker, self._executor, **options)
        self._lock = ForkSafeLock()
        self._held: list[tuple[float, BrokerMessage]] = []
        #: calls that run in the background
        self._calls: set[PortalCall[None]] = set()

    def kick(self, message: BrokerMessage) -> None:
        """Run a message, or start it; called by blocking code.

        Args:
            message: formatted message.

        Raises:
            UnknownTaskError: there is no such task in this process.
            TaskRaised: the task raised, and `raise_errors` is set.
        """
        if not self._hold(message):
            self.run(message)

    async def kick_async(self, message: BrokerMessage) -> None:
        """Run a message, or start it; see `kick`.

        Args:
            message: formatted message.
        """
        if not self._hold(message):
            await self.run_async(message)

    def run(self, message: BrokerMessage) -> None:
        """Run a message whatever its delay, or start it; called by blocking code.

        Args:
            message: formatted message.
        """
        self._check(message)
        if is_portal_thread():
            # An async task uses the blocking broker, and can't wait here for another task.
            group = _open_group()
            if group is None:
                self._start(message)
            else:
                group.spawn(self._receiver.callback(message.message))
        elif self.in_place:
            self._raise_error(message, self._run_here(message))
        else:
            self._start(message)

    async def run_async(self, message: BrokerMessage) -> None:
        """Run a message whatever its delay, or start it; see `run`.

        Args:
            message: formatted message.
        """
        self._check(message)
        group = _open_group()
        if group is not None:
            group.spawn(self._receiver.callback(message.message))
        elif self.in_place:
            self._raise_error(message, await self._run(message))
        else:
            self._start(message)

    def _check(self, message: BrokerMessage) -> None:
        if self.broker.find_task(message.task_name) is None:
            raise UnknownTaskError(task_name=message.task_name)

    def _run_here(self, message: BrokerMessage) -> TaskiqResult[Any] | None:
        caller = this_thread()
        if caller is None:
            return start_on_portal(self._run(message)).result()
        # Before it starts, so that it finds this thread waiting.
        with caller.waiting():
            return start_on_portal(self._run_for(caller, message)).result()

    async def _run_for(
        self, caller: CallerThread, message: BrokerMessage
    ) -> TaskiqResult[Any] | None:
        with self._executor.serving_asgiref():
            return await self._run(message, caller)

    async def _run(
        self, message: BrokerMessage, caller: CallerThread | None = None
    ) -> TaskiqResult[Any] | None:
        group = _TaskGroup(caller)
        await group.run(self._receiver.callback(message.message))
        return group.results.get(message.task_id)

    def _raise_error(self, message: BrokerMessage, result: TaskiqResult[Any] | None) -> None:
        error = None if result is None else result.error
        if self.raise_errors and error is not None and not isinstance(error, NoResultError):
            raise TaskRaised(message.task_name, error)

    def _start(self, message: BrokerMessage) -> None:
        call = start_on_portal(self._run_logged(message))
        with self._lock:
            self._calls.add(call)
        call.add_done_callback(lambda _: self._calls.discard(call))

    async def _run_logged(self, message: BrokerMessage) -> None:
        try:
            await self._run(message)
        except Exception:
            logger.exception(
                "taskiq's receiver failed to run the task %r with ID %s.",
                message.task_name,
                message.task_id,
            )

    def _hold(self, message: BrokerMessage) -> bool:
        """Keep a message if it is delayed, and delays aren't skipped."""
        delay = delay_of(message.task_name, message.labels)
        if not delay or not self.hold_delayed:
            return False
        with self._lock:
            self._held.append((delay, message))
        return True

    def take_held(self) -> list[BrokerMessage]:
        """Return the delayed messages, the shortest delay first, and hold them no longer."""
        with self._lock:
            held, self._held = self._held, []
        return [message for _, message in sorted(held, key=lambda each: each[0])]

    def is_held(self, task_id: str) -> bool:
        """Return whether a delayed task waits to be run.

        Args:
            task_id: ID of the task.
        """
        with self._lock:
            return any(message.task_id == task_id for _, message in self._held)

    def wait_all(self) -> None:
        """Wait until all tasks have ended that run in the background, and those that they sent."""
        if is_portal_thread():
            raise RuntimeError("An async task can't wait for all tasks: it would wait for itself.")
        while self._calls:
            with self._lock:
                calls = list(self._calls)
            for call in calls:
                call.result()
                self._calls.discard(call)

    def close(self) -> None:
        """Wait for the tasks that run, and end the threads; the next task starts others."""
        self.wait_all()
        self._executor.shutdown()


def join_task_groups(broker: Any, runner: Runner) -> None:
    """Let a broker that runs tasks itself run what a task sends in the group of that task.

    So the sender of the first task waits for all of them. Outside of a group, nothing changes.

    Args:
        broker: an `InMemoryBroker`.
        runner: runner of its blocking twin.
    """
    kick = broker.kick
    if hasattr(kick, _JOINS_GROUP):
        return

    async def kick_in_group(message: BrokerMessage) -> None:
        await (kick if _open_group() is None else runner.kick_async)(message)

    setattr(kick_in_group, _JOINS_GROUP, True)
    broker.kick = kick_in_group
