"""Group commit: requests that arrive during a round trip share the next one."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Generic, TypeVar

from taskiq_redis._async.connection import Connection
from taskiq_redis._core.locks import ForkSafeLock
from taskiq_redis._runtime.aio import OneShot, yield_while
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError, TaskIQRedisError

#: limits of one batch: requests, and bytes of more than one request
BATCH_REQUESTS, BATCH_BYTES = 100, 1_000_000
#: s; a round trip that takes longer is long. After so many long ones in a row, the server counts as
#: distant.
LONG_ROUND_TRIP, SHOW_DISTANCE = 0.02, 10
#: limits for a distant server: requests per batch, and batches in flight
DISTANT_BATCH_REQUESTS, BATCHES_IN_FLIGHT = 500, 8
#: s; a batch lingers only if the last one was sent this recently
LINGER_AFTER = 0.003
#: s; how long a batch lingers at most, while requests keep arriving
LINGER_TIME = 0.003
#: how many times in a row a batch yields to other tasks without getting a request, until it is sent
LINGER_YIELDS = 30
#: after this many batches of one request, only every so many batches linger
SINGLES, LINGER_EVERY = 3, 16


class Request:
    """A request to Redis that waits to be sent or answered.

    Args:
        args: the arguments that it adds to the command or script of its batch.
        retry_timeout: s; how long its caller waits for the reply.
        size: bytes; approximate length of its arguments.
    """

    __slots__ = ("abandoned", "answered", "args", "deadline", "error", "size", "wakeup")

    def __init__(
        self, args: tuple[str | bytes | int, ...], retry_timeout: float, size: int
    ) -> None:
        self.args = args
        #: time by the monotonic clock at which its caller stops waiting
        self.deadline = time.monotonic() + retry_timeout
        self.size = size
        self.answered = False
        #: the error if Redis refused it
        self.error: TaskIQRedisError | None = None
        #: whether its caller has stopped waiting; see `drop_abandoned`
        self.abandoned = False
        #: set when it is answered, or when its caller is to send the next batch
        self.wakeup: OneShot | None = None

    def time_left(self) -> float:
        """Return the seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())

    def raise_error(self) -> None:
        """Raise the error, if there is one; each caller gets a copy with its own traceback."""
        if self.error is not None:
            raise copy(self.error) from self.error.__cause__


AnyRequest = TypeVar("AnyRequest", bound=Request)


def drop_abandoned(batch: list[AnyRequest]) -> None:
    """Remove the requests whose callers have stopped waiting from a batch.

    Call it right before each try to send, so that no request is sent after its caller has been told
    that it failed.

    Args:
        batch: the batch that was passed to `Send`.
    """
    batch[:] = [request for request in batch if not request.abandoned]


#: sends a batch; gets its number, its requests, and how long to retry, in s. After an error, the
#: same batch may be sent again under its number, which must do no harm.
Send = Callable[[int, list[AnyRequest], float], Awaitable[None]]


class Batcher(Generic[AnyRequest]):
    """Sends the requests of concurrent callers in batches, one in flight at a time.

    There is no background task or thread: one of the waiting callers sends the batch for all. If it
    is cancelled or its deadline passes, another caller of the same batch sends it again.

    Args:
        connection: where to send.
        key: Redis key, for error messages.
        send: sends a batch, and stores replies and errors in its requests. An error that it raises
            applies to every request of the batch.
        linger: whether a batch may wait for more requests. That saves round trips when independent
            callers send one request each, as tasks do when they end.
    """

    def __init__(
        self, connection: Connection, key: str, send: Send[AnyRequest], *, linger: bool = False
    ) -> None:
        self._server = str(connection.server)
        self._key = key
        self._send = send
        self._linger = linger
        self._lock = ForkSafeLock()
        self._waiting: deque[AnyRequest] = deque()
        #: maximum number of abandoned requests among them
        self._abandoned = 0
        #: the request whose caller sends the next batch
        self._sender: AnyRequest | None = None
        #: the batch in flight, or sent without a reply, and its number
        self._batch: list[AnyRequest] = []
        self._number = 0
        #: when the last batch was sent, by the monotonic clock
        self.last_sent = 0.0
        #: whether the server is far away
        self.is_distant = False
        #: number of the last batches in a row that took a long round trip
        self._long_round_trips = 0
        #: batches of one request since the last larger one
        self._singles = 0

    @property
    def in_flight(self) -> bool:
        """Whether a batch is in flight; another request would wait for its reply."""
        return bool(self._batch)

    @property
    def idle(self) -> bool:
        """Whether no request waits."""
        return self._sender is None

    async def submit(self, *requests: AnyRequest) -> None:
        """Send the requests of one caller, in their order, and wait until all are answered.

        Args:
            requests: the requests.

        Raises:
            ServerUnavailableError: a request has no reply at its deadline.
            CommandRefusedError: Redis refuses one of them.
        """
        # Every message takes this path, where each further function call costs half a microsecond.
        try:
            self._enqueue(requests)
            for request in requests:
                if request.wakeup is not None:
                    await request.wakeup.wait(request.time_left())
                # A try after the deadline, by each caller in turn, could take very long.
                if self._sender is request and (request.wakeup is None or request.time_left() > 0):
                    await self._flush(request)
                self._leave(request)
        finally:
            for request in requests:
                if not request.abandoned:
                    self._leave(request)
        self._raise_errors(requests)

    def _enqueue(self, requests: Sequence[AnyRequest]) -> None:
        with self._lock:
            for request in requests:
                self._waiting.append(request)
                if self._sender is None:
                    self._sender = request
                else:
                    request.wakeup = OneShot()

    def _raise_errors(self, requests: Sequence[AnyRequest]) -> None:
        """Raise the error of a request; one without a reply takes precedence over a refused one."""
        for request in requests:
            if not request.answered:
                raise ServerUnavailableError(
                    server=self._server,
                    reason=f"an earlier request for the key {self._key!r} has no reply yet",
                )
        for request in requests:
            request.raise_error()

    async def _flush(self, sender: AnyRequest) -> None:
        """Send the next batch, or the one without a reply again, and wake its callers."""
        if self._linger or self.is_distant:
            await self._linger_for_more()
        batch = self._next_batch()
        self.last_sent = time.monotonic()
        try:
            await self._send(self._number, batch, sender.time_left())
        except CommandRefusedError as error:
            for request in batch:
                request.error = request.error if request.answered else error
        took = time.monotonic() - self.last_sent
        if took > LONG_ROUND_TRIP or self._long_round_trips:
            self._record_round_trip(took)
        with self._lock:
            self._batch = []
            for request in batch:
                request.answered = True
                if request.wakeup is not None:
                    request.wakeup.set()

    def _record_round_trip(self, took: float) -> None:
        # One isn't enough: on a new connection or a busy machine, some are long nearby, too, and
        # lingering would cost time there.
        self._long_round_trips = self._long_round_trips + 1 if took > LONG_ROUND_TRIP else 0
        self.is_distant = self._long_round_trips >= SHOW_DISTANCE

    async def _linger_for_more(self) -> None:
        """Wait while requests keep arriving, which saves most round trips under full load.

        After several batches of one request, linger only now and then: a worker that runs one task
        at a time gains nothing by it.
        """
        now = time.monotonic()
        worthwhile = self._singles < SINGLES or self._singles % LINGER_EVERY == 0
        # Compared with a long round trip, lingering takes no time.
        if self.is_distant or (worthwhile and now - self.last_sent < LINGER_AFTER):
            await yield_while(self._make_linger_condition(now + LINGER_TIME))

    def _make_linger_condition(self, end: float) -> Callable[[], bool]:
        """Return a condition that holds while requests keep arriving, and until `end`."""
        before, in_vain, limit = len(self._waiting), 0, self._limit

        def goes_on() -> bool:
            nonlocal before, in_vain
            waiting = len(self._waiting)
            before, in_vain = waiting, (0 if waiting > before else in_vain + 1)
            return in_vain < LINGER_YIELDS and waiting < limit and time.monotonic() < end

        return goes_on

    @property
    def _limit(self) -> int:
        """Maximum number of requests per batch."""
        return DISTANT_BATCH_REQUESTS if self.is_distant else BATCH_REQUESTS

    def _next_batch(self) -> list[AnyRequest]:
        """Return the batch that has no reply yet, or else a new one of waiting requests."""
        with self._lock:
            if not self._batch:
                self._number += 1
                self._batch = self._take_requests()
                self._singles = 0 if len(self._batch) > 1 else self._singles + 1
            return self._batch

    def _take_requests(self) -> list[AnyRequest]:
        waiting = self._waiting
        requests = [waiting.popleft()]
        if not waiting:
            return requests
        limit, bytes_left = self._limit, BATCH_BYTES - requests[0].size
        while waiting and len(requests) < limit:
            request = waiting[0]
            if not request.abandoned:
                bytes_left -= request.size
                if bytes_left < 0:
                    break
                requests.append(request)
            waiting.popleft()
        return requests

    def _leave(self, request: AnyRequest) -> None:
        """Stop waiting for a request, and let another caller send if this one was to."""
        with self._lock:
            request.abandoned = True
            if not request.answered:
                self._forget_abandoned()
            if self._sender is request:
                self._sender = self._next_sender()
                if self._sender is not None and self._sender.wakeup is not None:
                    self._sender.wakeup.set()

    def _forget_abandoned(self) -> None:
        """Remove abandoned requests from the queue, once they may be half of it.

        To search the queue for each of them would take too long when thousands of callers time out.
        """
        self._abandoned += 1
        if 2 * self._abandoned > len(self._waiting):
            self._waiting = deque(one for one in self._waiting if not one.abandoned)
            self._abandoned = 0

    def _next_sender(self) -> AnyRequest | None:
        for request in self._batch:
            if not request.abandoned:
                return request
        # No caller waits for that batch: it isn't sent again.
        self._batch = []
        while self._waiting and self._waiting[0].abandoned:
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None


class ParallelBatcher(Generic[AnyRequest]):
    """Sends several batches at a time to a distant server; their order doesn't matter.

    With one batcher, a request would wait for the reply to the batch before its own.

    Args:
        make: returns a new batcher.
    """

    def __init__(self, make: Callable[[], Batcher[AnyRequest]]) -> None:
        self._make = make
        self._batchers = [make()]

    def pick(self) -> Batcher[AnyRequest]:
        """Return the batcher that can send another request first."""
        first = self._batchers[0]
        return self._pick_distant() if first.is_distant else first

    def _pick_distant(self) -> Batcher[AnyRequest]:
        for batcher in self._batchers:
            if not batcher.in_flight:
                return batcher
        if len(self._batchers) < BATCHES_IN_FLIGHT:
            added = self._make()
            # So that it lingers from the start, instead of sending the first request alone.
            added.is_distant = True
            self._batchers.append(added)
            return added
        # The reply to the batch that was sent first arrives first.
        return min(self._batchers, key=lambda batcher: batcher.last_sent)
