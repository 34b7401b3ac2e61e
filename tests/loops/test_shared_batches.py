"""Concurrent kicks share batches; cancelling one doesn't affect the others."""

import asyncio
import random
from collections import Counter

import pytest

from tests._async.support import message
from tests._async.test_kicks import MECHANISMS, sent, through
from tests.faults.proxy import FaultInjector, faulty_network
from tests.servers import Topology

pytestmark = pytest.mark.anyio

#: rounds of concurrent kicks, half of which are cancelled
ROUNDS, KICKS = 6, 20


@MECHANISMS
async def test_cancelled_kicks_do_not_affect_others_in_their_batch(
    topology: Topology, name: str, mechanism: str
) -> None:
    faults = FaultInjector(name, delay=0.6)
    with faulty_network(topology, faults) as proxies:
        options = {"queue_name": name, "socket_timeout": 0.3, "kick_timeout": 60}
        broker = through(proxies, mechanism, **options)
        await broker.kick(message(b"first"))
        faults.active = True
        outcomes = []
        for number in range(0, ROUNDS * KICKS, KICKS):
            kicks = [_kick(broker, kick) for kick in range(number, number + KICKS)]
            outcomes += await asyncio.gather(*kicks, return_exceptions=True)
        faults.active = False
        await broker.kick(message(b"last"))
        proxies.wait_for_delayed()
        await broker.shutdown()
    found = Counter(sent(topology, mechanism, name))
    assert set(found.values()) == {1}
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(error, asyncio.CancelledError) for error in errors)
    assert 0 < len(errors) <= ROUNDS * KICKS / 2
    returned = {outcome for outcome in outcomes if isinstance(outcome, bytes)}
    assert returned < set(found)


async def _kick(broker: object, number: int) -> bytes:
    """Send a message in a task that is cancelled soon if its number is even."""
    data = b"%d" % number
    task = asyncio.ensure_future(broker.kick(message(data)))  # type: ignore[attr-defined]
    if number % 2 == 0:
        for _ in range(random.Random(number).choice((0, 1, 3, 10, 30, 100))):
            await asyncio.sleep(0)
        task.cancel()
    await task
    return data
