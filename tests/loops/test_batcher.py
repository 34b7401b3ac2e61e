"""Callers that share round trips, cancelled or disconnected at any moment."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from taskiq_redis._async import batcher
from taskiq_redis._async.batcher import Batcher, Request, drop_abandoned
from taskiq_redis._async.connection import Connection
from taskiq_redis._core.addresses import SingleNode
from taskiq_redis._runtime.aio import yield_while
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.anyio

#: s; later than the end of any test
NO_DEADLINE = 1000.0
#: s; may pass while a caller waits
SHORT_DEADLINE = 0.01

#: outcomes of a round trip: executed, request lost, reply lost, or refused by Redis
OUTCOMES = ("executed", "lost", "reply lost", "refused")


class TextRequest(Request):
    """A request with a text, whose reply is that text."""

    __slots__ = ("reply", "text")

    def __init__(self, text: str, retry_timeout: float) -> None:
        super().__init__((text,), retry_timeout, len(text))
        self.text = text
        self.reply = ""


class RecordingServer(Batcher[TextRequest]):
    """Executes each batch once, and replies to each request."""

    def __init__(self, outcomes: list[tuple[str, int]], *, linger: bool) -> None:
        connection = Connection(SingleNode("redis://localhost:1"))
        super().__init__(connection, "key", self.receive, linger=linger)
        self.outcomes = iter(outcomes)
        self.in_progress = 0
        self.done: list[str] = []
        self.numbers: set[int] = set()

    async def receive(self, number: int, batch: list[TextRequest], retry_timeout: float) -> None:
        outcome, pauses = next(self.outcomes, ("executed", 1))
        self.in_progress += 1
        assert self.in_progress == 1
        try:
            for _ in range(pauses):
                await asyncio.sleep(0)
            self._execute(number, batch, outcome)
        finally:
            self.in_progress -= 1

    def _execute(self, number: int, batch: list[TextRequest], outcome: str) -> None:
        drop_abandoned(batch)
        lost = ServerUnavailableError(server="here", reason="it was cut")
        if outcome == "lost":
            raise lost
        if number not in self.numbers:
            if outcome == "refused":
                raise CommandRefusedError(server="here", reason="no", advice="None.")
            self.numbers.add(number)
            self.done += [request.text for request in batch]
        if outcome == "reply lost":
            raise lost
        for request in batch:
            request.reply = request.text


class CountingRequest(TextRequest):
    """Counts how often requests are looked at."""

    looks = 0

    @property
    def abandoned(self) -> bool:
        """Whether its caller has stopped waiting."""
        CountingRequest.looks += 1
        return self._left

    @abandoned.setter
    def abandoned(self, value: bool) -> None:
        self._left = value

    def __eq__(self, other: object) -> bool:
        CountingRequest.looks += 1
        return self is other

    __hash__ = TextRequest.__hash__


@dataclass
class Caller:
    """A caller that submits requests at some time, and may be cancelled or have a short deadline."""

    number: int
    requests: int
    starts_after: int
    cancelled_after: int | None
    long_deadline: bool

    async def call(self, server: RecordingServer) -> str:
        """Submit the requests, and return the outcome."""
        for _ in range(self.starts_after):
            await asyncio.sleep(0)
        retry_timeout = NO_DEADLINE if self.long_deadline else SHORT_DEADLINE
        requests = [
            TextRequest(f"{self.number}:{index}", retry_timeout) for index in range(self.requests)
        ]
        try:
            await server.submit(*requests)
        except ServerUnavailableError:
            return "unknown"
        except CommandRefusedError:
            refused = {request.text for request in requests if request.error is not None}
            assert refused.isdisjoint(server.done)
            return "refused"
        assert [request.reply for request in requests] == [request.text for request in requests]
        assert all(server.done.count(request.text) == 1 for request in requests)
        return "done"


async def run_callers(callers: list[Caller], outcomes: list[tuple[str, int]], linger: bool) -> None:
    """Run the callers, and check that no request was lost, done twice or mixed up with another."""
    server = RecordingServer(outcomes, linger=linger)
    tasks: list[asyncio.Task[Any]] = []
    for caller in callers:
        task = asyncio.ensure_future(caller.call(server))
        tasks.append(task)
        if caller.cancelled_after is not None:
            cancel_after(task, caller.cancelled_after)
    together = asyncio.gather(*tasks, return_exceptions=True)
    for result in await asyncio.wait_for(together, TIMEOUT):
        assert result in ("done", "unknown", "refused") or isinstance(
            result, asyncio.CancelledError
        )
    assert len(server.done) == len(set(server.done))
    assert server.idle
    assert not server._waiting
    # A later request still gets its reply.
    server.outcomes = iter(())
    await server.submit(TextRequest("last", NO_DEADLINE))


def cancel_after(task: "asyncio.Task[Any]", pauses: int) -> None:
    """Cancel a task after that many iterations of the loop."""
    if pauses == 0:
        task.cancel()
    else:
        asyncio.get_running_loop().call_soon(cancel_after, task, pauses - 1)


async def test_single_caller_does_not_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    yields = []

    async def recording_yield(is_needed: Callable[[], bool]) -> None:
        yields.append(1)
        await yield_while(is_needed)

    monkeypatch.setattr(batcher, "yield_while", recording_yield)
    server = RecordingServer([("executed", 1)] * 100, linger=True)

    async def send(number: int) -> None:
        await server.submit(TextRequest(str(number), NO_DEADLINE))

    for number in range(batcher.SINGLES):
        await send(number)
    yields.clear()
    for number in range(10, 20):
        await send(number)
    assert yields == []
    await asyncio.gather(*map(send, range(20, 30)))
    await send(30)
    assert yields


async def test_abandoned_request_is_not_sent_again() -> None:
    server = RecordingServer([("lost", 5), ("lost", 5)], linger=False)

    async def send(text: str) -> None:
        await server.submit(TextRequest(text, NO_DEADLINE))

    # The first one is a batch of its own; the others form the next one.
    outcomes = await asyncio.gather(*map(send, "123"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[:2]] == 2 * [ServerUnavailableError]
    assert outcomes[2] is None
    assert server.done == ["3"]


async def test_time_to_give_up_grows_linearly() -> None:
    server = RecordingServer([("executed", 10**6)], linger=False)
    number = 1000
    requests = [CountingRequest(str(index), NO_DEADLINE) for index in range(number)]
    tasks = [asyncio.ensure_future(server.submit(request)) for request in requests]
    await asyncio.sleep(0)
    CountingRequest.looks = 0
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert server.idle
    assert CountingRequest.looks < 20 * number


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    # Shrinking would repeat examples that hang until the timeout.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    callers=st.lists(
        st.builds(
            Caller,
            number=st.just(0),
            requests=st.sampled_from([1, 1, 1, 2, 150]),
            starts_after=st.integers(0, 12),
            cancelled_after=st.none() | st.integers(0, 25),
            long_deadline=st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
    outcomes=st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(0, 6)), max_size=12),
    linger=st.booleans(),
)
def test_no_request_is_lost_duplicated_or_mixed_up(
    callers: list[Caller], outcomes: list[tuple[str, int]], linger: bool
) -> None:
    for number, caller in enumerate(callers):
        caller.number = number
    asyncio.run(run_callers(callers, outcomes, linger))
