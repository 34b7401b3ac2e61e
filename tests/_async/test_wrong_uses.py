"""What users see who make the mistakes of beginners."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from taskiq.exceptions import ResultGetError, ResultIsReadyError, SendTaskError

from taskiq_redis.exceptions import (
    ArgumentEncodeError,
    InvalidOptionError,
    ResultIsMissingError,
    ScheduleEncodeError,
    ServerUnavailableError,
    TaskIQRedisError,
)
from tests._async.bad_input import FAIL_SOON, ON, QUEUES, at_port, schedule
from tests._async.support import build, message, opened, redis_of
from tests.leaks import ARGUMENT
from tests.servers import Topology

pytestmark = pytest.mark.anyio


def work(order: Any = None, *more: Any, day: Any = None) -> None:
    """Do what a task does."""


# --- Errors say why, and what to do ---------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
async def test_send_error_has_reason_and_remedy(
    topology: Topology, name: str, closed_port: int, many: bool
) -> None:
    where = at_port(topology, closed_port)
    async with opened(where, "list", queue_name=name, **FAIL_SOON) as broker:
        task = broker.register_task(work, task_name="m:work")
        send = partial(task.kiq_many, [task.call(1)]) if many else partial(task.kiq, 1)
        with pytest.raises(SendTaskError) as error:
            await send()
    assert isinstance(error.value, TaskIQRedisError)
    assert isinstance(error.value.__cause__, ServerUnavailableError)
    assert str(error.value) == f"Cannot send task to the queue: {error.value.__cause__}"
    assert "Check " in str(error.value)


@ON["single"]
async def test_result_error_has_reason_and_remedy(topology: Topology, name: str) -> None:
    async with (
        opened(topology, "list", queue_name=name) as broker,
        opened(topology, "results", prefix_str=name) as backend,
    ):
        broker.with_result_backend(backend)
        task = broker.register_task(work, task_name="m:work")
        sent = await task.kicker().with_task_id("id").kiq()
        with pytest.raises(ResultGetError) as error:
            await sent.get_result()
        assert isinstance(error.value.__cause__, ResultIsMissingError)
        assert str(error.value) == (
            f"Cannot get result for the task: There is no result in the key '{name}:id': "
            "not ready, expired, or deleted."
        )
        redis_of(topology).lpush(f"{name}:id", "x")
        for read in (sent.get_result, sent.wait_result):
            with pytest.raises(ResultGetError, match="The key is used for something else"):
                await read()
        sent.result_backend = None
        with pytest.raises(ResultIsReadyError, match=r"if the task is ready: AttributeError: '"):
            await sent.is_ready()


# --- Arguments that can't be serialized -----------------------------------------------------------


class Secret:
    def __repr__(self) -> str:
        return ARGUMENT


UNSERIALIZABLE: list[tuple[tuple[Any, ...], dict[str, Any], str, str]] = [
    ((Secret(),), {}, "order", "it is a value of type Secret"),
    ((1, 2, Secret()), {}, "args[2]", "it is a value of type Secret"),
    ((1,), {"day": Secret()}, "day", "it is a value of type Secret"),
    ((1,), {"day": b"\xff"}, "day", "it is a value of type bytes"),
    (([1, {"a": [Secret()]}],), {}, "order", "it contains a value of type Secret"),
    (({ARGUMENT: Secret()},), {}, "order", "it contains a value of type Secret"),
    ((Secret,), {}, "order", "it is the class Secret"),
]


@ON["single"]
@pytest.mark.parametrize(("args", "kwargs", "argument", "reason"), UNSERIALIZABLE)
async def test_argument_that_cannot_be_serialized_is_named(
    topology: Topology,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argument: str,
    reason: str,
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        task = broker.register_task(work, task_name="m:work")
        for send in (
            partial(task.kiq, *args, **kwargs),
            partial(task.kiq_many, [task.call(1), task.call(*args, **kwargs)]),
        ):
            with pytest.raises(SendTaskError) as error:
                await send()
            assert isinstance(error.value, ArgumentEncodeError)
            assert str(error.value).startswith(
                f"The argument {argument!r} of the task 'm:work' can't be serialized: {reason} ("
            )
            assert ARGUMENT not in str(error.value)
    assert not redis_of(topology).exists(name)


@ON["single"]
async def test_argument_of_a_task_without_a_function_is_numbered(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        task = broker.register_task(work, task_name="m:work")
        kicker = task.kicker()
        kicker.task_name = "elsewhere"
        with pytest.raises(ArgumentEncodeError, match=r"The argument 'args\[1\]' of the task 'els"):
            await kicker.kiq(1, Secret())


@ON["single"]
async def test_no_argument_is_blamed_for_what_a_formatter_demands(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "list", queue_name=name) as broker:
        dumps = broker.formatter.dumps

        def dump_for_tenant(message: Any) -> Any:
            if "tenant" not in message.labels:
                raise LookupError("no label 'tenant'")
            return dumps(message)

        broker.formatter.dumps = dump_for_tenant
        task = broker.register_task(work, task_name="m:work")
        for send in (partial(task.kiq, 1), partial(task.kiq_many, [task.call(1)])):
            with pytest.raises(SendTaskError, match=r"queue: LookupError: no label 'tenant'$"):
                await send()


@ON["single"]
async def test_argument_of_a_schedule_that_cannot_be_serialized_is_named(
    topology: Topology, name: str
) -> None:
    async with opened(topology, "indexed", prefix=f"{{{name}}}") as source:
        for place, argument in (
            ({"args": [1, Secret()]}, "args[1]"),
            ({"kwargs": {"day": [Secret()]}}, "day"),
        ):
            wrong = schedule().model_copy(update=place)
            with pytest.raises(ScheduleEncodeError) as error:
                await source.add_schedule(wrong)
            assert f"serialized: the argument '{argument}': it " in str(error.value)
            assert ARGUMENT not in str(error.value)


# --- Delays that are no numbers -------------------------------------------------------------------


@ON["single"]
@pytest.mark.parametrize("delay", [timedelta(seconds=5), "soon", -3.0, float("nan"), True])
@pytest.mark.parametrize("mechanism", QUEUES)
async def test_label_that_is_no_delay_is_refused(
    topology: Topology, name: str, mechanism: str, delay: Any
) -> None:
    async with opened(topology, mechanism, queue_name=name) as broker:
        task = broker.register_task(work, task_name="m:work")
        declared = broker.register_task(work, task_name=f"declared {delay}", delay=delay)
        other = task.kicker().with_labels(queue_name=f"{name}:other", delay=delay)
        for send in (
            task.kicker().with_labels(delay=delay).kiq,
            partial(other.kiq_many, [task.call(1)]),
            declared.kiq,
        ):
            with pytest.raises(SendTaskError) as error:
                await send()
            assert isinstance(error.value.__cause__, InvalidOptionError)
            shown = str(delay) if isinstance(delay, float) else repr(str(delay))
            assert str(error.value).endswith(
                f"`delay`: {shown} is not a delay in seconds. Give a number from 0 to "
                "10,000,000,000; `total_seconds()` returns that of a timedelta."
            )
        messages = [
            message(b"a", queue_name=name),
            message(b"a", queue_name=f"{name}:2", delay=str(delay)),
        ]
        with pytest.raises(InvalidOptionError, match="is not a delay in seconds"):
            await broker.kick_many(messages)
    assert not redis_of(topology).keys(f"*{name}*")


# --- Results that never expire --------------------------------------------------------------------


async def start(broker: Any, *, is_worker: bool) -> None:
    """Start and end a process."""
    broker.is_worker_process = is_worker
    await broker.startup()
    await broker.shutdown()


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, "all results"), ({"keep_results": False}, "each result that nobody reads")],
)
async def test_worker_warns_once_of_results_that_never_expire(
    topology: Topology,
    name: str,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    kept: str,
) -> None:
    async with opened(topology, "results", prefix_str=name, **options) as backend:
        broker = build(topology, "list", queue_name=name).with_result_backend(backend)
        # Other processes don't store results.
        await start(broker, is_worker=False)
        assert caplog.messages == []
        for _ in range(2):
            await start(broker, is_worker=True)
        (text,) = caplog.messages
        assert text == (
            f"Results of {backend!r} never expire: Redis keeps {kept} until its memory is full. "
            "Pass `result_ex_time`, such as 86400 for a day."
        )


@pytest.mark.parametrize("option", ["result_ex_time", "result_px_time"])
async def test_worker_does_not_warn_of_results_that_expire(
    topology: Topology, name: str, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(topology, "results", prefix_str=name, **{option: 60_000}) as backend:
        broker = build(topology, "list", queue_name=name).with_result_backend(backend)
        await start(broker, is_worker=True)
    assert caplog.messages == []


async def test_worker_without_result_backend_does_not_warn(
    topology: Topology, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await start(build(topology, "list", queue_name=name), is_worker=True)
    assert caplog.messages == []
