"""Group commit: what comes while a round trip is under way shares the next one."""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any, Generic, TypeVar

from taskiq_redis._async.connection import Connection
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._core.redis_errors import is_about_the_user
from taskiq_redis._runtime.aio import OneShot, current_task, yield_while
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError, TaskIQRedisError

#: most entries of one batch, and most bytes of more than one entry
BATCH_REQUESTS, BATCH_BYTES = 100, 1_000_000
#: s; so shortly after the last batch, the next waits for company
BUSY = 0.003
#: s; how long it waits at most, while others keep coming
LINGER_TIME = 0.003
#: how often it gives way to others in vain before it goes
IN_VAIN = 30
#: after so many batches of one entry, company is waited for each so many batches only
SINGLES, TRIED_EVERY = 3, 16


class Request:
    """Something on its way to Redis, and whoever waits for that.

    Args:
        deadline: when the caller wants to hear of it at the latest, by the monotonic clock.
        size: bytes, about.
    """

    __slots__ = ("answered", "deadline", "error", "left", "size", "turn")

    def __init__(self, deadline: float, size: int) -> None:
        self.deadline = deadline
        self.size = size
        self.answered = False
        #: why Redis doesn't do it, if it said so
        self.error: TaskIQRedisError | None = None
        #: whether nobody waits any more
        self.left = False
        #: comes with the answer, or when it is this caller's turn to send
        self.turn: OneShot | None = None

    def time_left(self) -> float:
        """Return the seconds until the caller gives up."""
        return max(0.0, self.deadline - time.monotonic())

    def raise_error(self) -> None:
        """Raise the error, if there is one, with a traceback of the caller's own."""
        if self.error is not None:
            raise copy(self.error) from self.error.__cause__


AnyRequest = TypeVar("AnyRequest", bound=Request)


class Batch(Generic[AnyRequest]):
    """What is sent together; tried again, it is the same entries and number."""

    __slots__ = ("entries", "number")

    def __init__(self, number: int, entries: list[AnyRequest]) -> None:
        self.number = number
        self.entries = entries


class Batcher(ABC, Generic[AnyRequest]):
    """Sends what several callers have in batches, one under way at a time.

    There is no task or thread behind this: the caller who waits longest sends for all. If that one
    gives up or is cancelled, another member of the batch sends it again. So nobody's cancellation
    cuts off the others; but sending a batch twice must do no harm.

    Args:
        connection: where to.
        key: what it is about, for errors.
    """

    #: whether a batch may wait for company, as the entries come one after the other, but from
    #: callers who don't wait for each other, such as the ends of tasks
    linger = False

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection = connection
        self._key = key
        self._guard = ForkSafeLock()
        self._waiting: deque[AnyRequest] = deque()
        self._sender: AnyRequest | None = None
        #: who waits for answers: tasks, or threads
        self._callers: set[object] = set()
        #: what was sent, perhaps without an answer
        self._batch: Batch[AnyRequest] | None = None
        self._last_number = 0
        self._last_sent = 0.0
        #: how many batches of one entry there were since one of more
        self._singles = 0

    @abstractmethod
    async def send(self, batch: Batch[AnyRequest], retry_timeout: float) -> None:
        """Send a batch, and leave with each entry what Redis said; what it raises is for all.

        Args:
            batch: what to send.
            retry_timeout: s; how long to try.
        """

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return self._sender is None

    async def run(self, entry: AnyRequest) -> None:
        """Wait until an entry is answered.

        Args:
            entry: what to send.

        Raises:
            ServerUnavailableError: there is no answer, and the caller doesn't wait any longer.
            CommandRefusedError: Redis doesn't do it.
        """
        await self.run_all([entry])

    async def run_all(self, entries: Sequence[AnyRequest]) -> None:
        """Wait until all entries of one caller are answered; they are sent in their order.

        Args:
            entries: what to send.

        Raises:
            ServerUnavailableError: one has no answer, and the caller doesn't wait any longer.
            CommandRefusedError: Redis doesn't do one of them.
        """
        caller = current_task()
        if caller in self._callers:
            # A signal handler has interrupted this thread, which others may wait for: it would wait
            # for itself.
            for entry in entries:
                await self._send_apart(entry)
            self._check(entries)
            return
        # This is the path of every message: each call that it goes through costs half a µs.
        try:
            self._enter(entries, caller)
            for entry in entries:
                if entry.turn is not None:
                    await entry.turn.wait(entry.time_left())
                if self._sender is entry:
                    await self._send_batch(entry)
                self._leave(entry)
        finally:
            for entry in entries:
                if not entry.left:
                    self._leave(entry)
            self._callers.discard(caller)
        self._check(entries)

    async def _send_apart(self, entry: AnyRequest) -> None:
        try:
            await self.send_apart(entry)
        except CommandRefusedError as error:
            entry.error = entry.error or error
        entry.answered = True

    async def send_apart(self, entry: AnyRequest) -> None:
        """Send an entry while a batch may be under way beneath it.

        Args:
            entry: what to send.
        """
        await self.send(Batch(0, [entry]), entry.time_left())

    def _enter(self, entries: Sequence[AnyRequest], caller: object) -> None:
        """Take entries in; their caller has to wait, if somebody else is about to send."""
        with self._guard:
            self._callers.add(caller)
            for entry in entries:
                self._waiting.append(entry)
                if self._sender is None:
                    self._sender = entry
                else:
                    entry.turn = OneShot()

    def _check(self, entries: Sequence[AnyRequest]) -> None:
        """Raise what went wrong; that something is unknown comes before that it is refused."""
        if not all(entry.answered for entry in entries):
            raise ServerUnavailableError(
                server=str(self._connection.server),
                reason=f"what was sent to {self._key!r} before is still without an answer",
            )
        for entry in entries:
            entry.raise_error()

    async def _linger_for_more(self) -> None:
        """Wait for others while they keep coming; at full load, that saves most round trips.

        Where they come one by one it is tried now and then only: whoever runs one task at a time
        has no others.
        """
        now = time.monotonic()
        worth_it = self._singles < SINGLES or self._singles % TRIED_EVERY == 0
        if worth_it and now - self._last_sent < BUSY:
            await yield_while(self._others_come())
            now = time.monotonic()
        self._last_sent = now

    def _others_come(self) -> Callable[[], bool]:
        """Return what tells, each time that others could go on, whether it is worth waiting."""
        deadline, before, vain = time.monotonic() + LINGER_TIME, len(self._waiting), 0

        def come() -> bool:
            nonlocal before, vain
            waiting = len(self._waiting)
            before, vain = waiting, (0 if waiting > before else vain + 1)
            return vain < IN_VAIN and waiting < BATCH_REQUESTS and time.monotonic() < deadline

        return come

    async def _send_batch(self, sender: AnyRequest) -> None:
        if self.linger:
            await self._linger_for_more()
        batch = self._next_batch()
        try:
            await self.send(batch, sender.time_left())
        except CommandRefusedError as error:
            for entry in batch.entries:
                entry.error = entry.error if entry.answered else error
        with self._guard:
            self._batch = None
            for entry in batch.entries:
                entry.answered = True
                if entry.turn is not None:
                    entry.turn.come()

    def _next_batch(self) -> Batch[AnyRequest]:
        """Return the batch that has no answer yet, or else make one of what waits."""
        with self._guard:
            if self._batch is None:
                self._last_number += 1
                self._batch = Batch(self._last_number, self._take_entries())
                self._singles = 0 if len(self._batch.entries) > 1 else self._singles + 1
            return self._batch

    def _take_entries(self) -> list[AnyRequest]:
        entries = [self._waiting.popleft()]
        limit = BATCH_BYTES - entries[0].size
        while self._waiting and len(entries) < BATCH_REQUESTS:
            limit -= self._waiting[0].size
            if limit < 0:
                break
            entries.append(self._waiting.popleft())
        return entries

    def _leave(self, entry: AnyRequest) -> None:
        """Go, and leave the sending to the next one if it was this caller's turn."""
        with self._guard:
            entry.left = True
            if not entry.answered and entry in self._waiting:
                self._waiting.remove(entry)
            if self._sender is entry:
                self._sender = self._next_sender()
                if self._sender is not None and self._sender.turn is not None:
                    self._sender.turn.come()

    def _next_sender(self) -> AnyRequest | None:
        unanswered: Sequence[AnyRequest] = self._batch.entries if self._batch else ()
        for entry in unanswered:
            if not entry.left:
                return entry
        # Nobody waits for that batch: it arrived or it didn't, and is not sent again.
        self._batch = None
        return self._waiting[0] if self._waiting else None


async def refusal_of(run: Callable[[], Awaitable[Any]]) -> CommandRefusedError | None:
    """Run something, and return why Redis doesn't do it, if there may be another way.

    Args:
        run: what to run.

    Raises:
        CommandRefusedError: Redis lets this user do nothing at all.
    """
    try:
        await run()
    except CommandRefusedError as refusal:
        if is_about_the_user(refusal.__cause__):
            raise
        return refusal
    return None
