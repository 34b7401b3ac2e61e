"""Callers that share round trips, cancelled and cut off at any moment."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from taskiq_redis._async import batcher
from taskiq_redis._async.batcher import Batcher, Request
from taskiq_redis._async.connection import Connection
from taskiq_redis._core.addresses import SingleNode
from taskiq_redis._runtime.aio import yield_while
from taskiq_redis.exceptions import CommandRefusedError, ServerUnavailableError
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.anyio

#: s; longer than any test
FOR_EVER = 1000.0
#: s; how long an impatient caller waits
SHORT = 0.01

#: what becomes of a round trip: it arrives; it gets lost on its way there, or on its way back; it is
#: refused
FATES = ("arrives", "lost", "reply lost", "refused")


class Word(Request):
    """What a caller sends."""

    __slots__ = ("reply", "text")

    def __init__(self, text: str, give_up: float) -> None:
        super().__init__(give_up, len(text))
        self.text = text
        self.reply = ""


class Server(Batcher[Word]):
    """Does each batch once, and says of each entry that it was done."""

    def __init__(self, fates: list[tuple[str, int]], *, linger: bool) -> None:
        connection = Connection(SingleNode("redis://localhost:1"))
        super().__init__(connection, "key", self.receive, linger=linger)
        self.fates = iter(fates)
        self.under_way = 0
        self.done: list[str] = []
        self.numbers: set[int] = set()

    async def receive(self, number: int, batch: list[Word], retry_timeout: float) -> None:
        fate, pauses = next(self.fates, ("arrives", 1))
        self.under_way += 1
        assert self.under_way == 1
        try:
            for _ in range(pauses):
                await asyncio.sleep(0)
            self._answer(number, batch, fate)
        finally:
            self.under_way -= 1

    def _answer(self, number: int, batch: list[Word], fate: str) -> None:
        lost = ServerUnavailableError(server="here", reason="it was cut")
        if fate == "lost":
            raise lost
        if number not in self.numbers:
            if fate == "refused":
                raise CommandRefusedError(server="here", reason="no", advice="None.")
            self.numbers.add(number)
            self.done += [word.text for word in batch]
        if fate == "reply lost":
            raise lost
        for word in batch:
            word.reply = word.text


@dataclass
class Caller:
    """Who sends some words at some time, and may not have the patience to hear of them."""

    number: int
    words: int
    begins: int
    cancelled_after: int | None
    patient: bool

    async def call(self, server: Server) -> str:
        """Send, and return what came of it."""
        for _ in range(self.begins):
            await asyncio.sleep(0)
        give_up = time.monotonic() + (FOR_EVER if self.patient else SHORT)
        words = [Word(f"{self.number}:{index}", give_up) for index in range(self.words)]
        try:
            await server.submit(*words)
        except ServerUnavailableError:
            return "unknown"
        except CommandRefusedError:
            refused = {word.text for word in words if word.error is not None}
            assert refused.isdisjoint(server.done)
            return "refused"
        assert [word.reply for word in words] == [word.text for word in words]
        assert all(server.done.count(word.text) == 1 for word in words)
        return "done"


async def play(callers: list[Caller], fates: list[tuple[str, int]], linger: bool) -> None:
    """Let them call, and check that nothing was lost, done twice or told to somebody else."""
    server = Server(fates, linger=linger)
    tasks: list[asyncio.Task[Any]] = []
    for caller in callers:
        task = asyncio.ensure_future(caller.call(server))
        tasks.append(task)
        if caller.cancelled_after is not None:
            cancel_after(task, caller.cancelled_after)
    together = asyncio.gather(*tasks, return_exceptions=True)
    outcomes = await asyncio.wait_for(together, TIMEOUT)
    for outcome in outcomes:
        assert outcome in ("done", "unknown", "refused") or isinstance(
            outcome, asyncio.CancelledError
        )
    assert len(server.done) == len(set(server.done))
    assert server.idle
    assert not server._waiting
    # Whoever comes after all that is answered.
    server.fates = iter(())
    await server.submit(Word("last", time.monotonic() + FOR_EVER))


def cancel_after(task: "asyncio.Task[Any]", pauses: int) -> None:
    """Cancel a task when the loop has gone round so often."""
    if pauses == 0:
        task.cancel()
    else:
        asyncio.get_running_loop().call_soon(cancel_after, task, pauses - 1)


async def test_single_caller_does_not_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    gave_way = []

    async def observed(goes_on: Callable[[], bool]) -> None:
        gave_way.append(1)
        await yield_while(goes_on)

    monkeypatch.setattr(batcher, "yield_while", observed)
    server = Server([("arrives", 1)] * 100, linger=True)

    async def send(number: int) -> None:
        await server.submit(Word(str(number), time.monotonic() + FOR_EVER))

    for number in range(batcher.SINGLES):
        await send(number)
    gave_way.clear()
    for number in range(10, 20):
        await send(number)
    assert gave_way == []
    await asyncio.gather(*map(send, range(20, 30)))
    await send(30)
    assert gave_way


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    # Smaller examples would take as long as each hangs.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    callers=st.lists(
        st.builds(
            Caller,
            number=st.just(0),
            words=st.sampled_from([1, 1, 1, 2, 150]),
            begins=st.integers(0, 12),
            cancelled_after=st.none() | st.integers(0, 25),
            patient=st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
    fates=st.lists(st.tuples(st.sampled_from(FATES), st.integers(0, 6)), max_size=12),
    linger=st.booleans(),
)
def test_no_request_is_lost_duplicated_or_mixed_up(
    callers: list[Caller], fates: list[tuple[str, int]], linger: bool
) -> None:
    for number, caller in enumerate(callers):
        caller.number = number
    asyncio.run(play(callers, fates, linger))
