"""What 1.2.4 wrote is read by a signer that accepts unsigned values, and refused by others."""

import inspect
from typing import Any

import pytest

from taskiq_redis import Signer
from taskiq_redis.exceptions import ResultDecodeError
from tests.compat.recorded import SCHEDULES, build, load, maybe_await, restore, serializer_of
from tests.servers import Topology

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("topology", ["single"], indirect=True),
]

KEYS = {"k": b"x" * 32}
ROLLING_IN = pytest.mark.parametrize(
    "signer",
    [
        pytest.param(Signer(KEYS, accept_unsigned=True), id="accept_unsigned"),
        pytest.param(Signer(KEYS, verify_only=True), id="verify_only", marks=pytest.mark.full),
    ],
)


async def first(messages: Any) -> bytes:
    """Return the first message, and end the generator."""
    received: Any = await anext(messages) if inspect.isasyncgen(messages) else next(messages)
    data: bytes = received if isinstance(received, bytes) else received.data
    await maybe_await(messages.aclose() if inspect.isasyncgen(messages) else messages.close())
    return data


@ROLLING_IN
@pytest.mark.parametrize("class_name", ["ListQueueBroker", "RedisStreamBroker"])
async def test_message_of_1_2_4_is_received(
    topology: Topology, name: str, twin: str, form: str, class_name: str, signer: Signer
) -> None:
    restore(topology, name, load(f"message-{class_name}-{form}")["keys"]["taskiq"])
    broker = build(twin, class_name, topology, queue_name=name).with_signer(signer)
    broker.with_serializer(serializer_of(form))
    task = broker.formatter.loads(await first(broker.listen()))
    await maybe_await(broker.shutdown())
    assert task.task_name == "golden:task"


@ROLLING_IN
async def test_result_of_1_2_4_is_read(
    topology: Topology, name: str, twin: str, form: str, signer: Signer
) -> None:
    restore(topology, f"{name}:tid", load(f"result-int-{form}")["keys"]["tid"])
    options: dict[str, Any] = {"prefix_str": name, "serializer": serializer_of(form)}
    backend = build(twin, "RedisAsyncResultBackend", topology, **options)
    assert (await maybe_await(backend.with_signer(signer).get_result("tid"))).return_value == 42
    backend.with_signer(Signer(KEYS))
    with pytest.raises(ResultDecodeError, match="it is not signed"):
        await maybe_await(backend.get_result("tid"))
    await maybe_await(backend.shutdown())


@ROLLING_IN
@pytest.mark.parametrize("class_name", ["RedisScheduleSource", "ListRedisScheduleSource"])
async def test_schedules_of_1_2_4_are_read(
    topology: Topology, name: str, twin: str, form: str, class_name: str, signer: Signer
) -> None:
    for key, value in load(f"schedule-{class_name}-{form}")["keys"].items():
        restore(topology, f"{name}:{key.removeprefix('schedule:')}", value)
    options: dict[str, Any] = {"prefix": name, "serializer": serializer_of(form)}
    source = build(twin, class_name, topology, **options).with_signer(signer)
    found = await maybe_await(source.get_all_schedules())
    assert sorted(each.schedule_id for each in found) == sorted(SCHEDULES)
    assert await maybe_await(source.with_signer(Signer(KEYS)).get_all_schedules()) == []
    await maybe_await(source.shutdown())
