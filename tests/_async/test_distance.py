"""Servers that are far away: a round trip takes a tenth of a second."""

from typing import Any

import pytest

from tests._async.support import build, data_of, message, opened
from tests.faults.proxy import Distance, faulty_network
from tests.servers import Topology

pytestmark = pytest.mark.anyio

#: s
ROUND_TRIP = 0.1


@pytest.mark.full
async def test_distant_worker_fetches_many_messages_per_round_trip(
    topology: Topology, name: str
) -> None:
    sent = [b"%d" % number for number in range(100)]
    async with opened(topology, "stream", queue_name=name) as sender:
        await sender.kick_many([message(data) for data in sent])
    distance = Distance(ROUND_TRIP, "XREADGROUP")
    with faulty_network(topology, distance) as proxies:
        options: dict[str, Any] = {"queue_name": name}
        if topology.kind == "cluster":
            options["address_remap"] = proxies.remap
        broker = build(proxies.topology, "stream", **options)
        messages, got = broker.listen(), list[bytes]()
        while len(got) < len(sent):
            got.append(await data_of(await anext(messages), acknowledge=False))
        await messages.aclose()
        await broker.shutdown()
    assert got == sent
    # One fetch per message would be a hundred.
    assert distance.requests < len(sent) / 3
