"""Run functions of this module for a test, with the version and twin that it was started with.

Read calls from the input, one line of JSON each, and write their return values to the output.
"""

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from objects import CLASSES, OLD, build, maybe_await, serializer
from taskiq import AckableMessage, TaskiqResult
from taskiq.depends.progress_tracker import TaskProgress, TaskState
from taskiq.exceptions import ResultGetError
from taskiq.kicker import AsyncKicker
from taskiq.scheduler.scheduled_task import ScheduledTask
from values import ARGUMENTS, KEYWORDS, LABELS, OUTCOMES, schedules

#: prefix of class names: "Sync", or nothing
TWIN = sys.argv[1] if len(sys.argv) > 1 else ""
#: s; time limit for a result
TIMEOUT = 60


@asynccontextmanager
async def opened(
    where: dict[str, Any], mechanism: str, form: str = "default", **options: Any
) -> AsyncIterator[Any]:
    """Create an object, and shut it down at the end of the block."""
    if mechanism in {"list", "stream", "pubsub"}:
        made = build(where, mechanism, TWIN, **options)
        if form != "default":
            made = made.with_serializer(serializer(form)["serializer"])
    else:
        made = build(where, mechanism, TWIN, **serializer(form), **options)
    try:
        yield made
    finally:
        await maybe_await(made.shutdown())


def kicker(broker: Any, task_name: str) -> Any:
    """Return a kicker for a task name."""
    return broker.kicker(task_name) if TWIN else AsyncKicker(task_name, broker, {})


async def work(
    where: dict[str, Any], mechanism: str, name: str, numbers: list[int], seconds: float = 0
) -> dict[str, Any]:
    """Send tasks to workers one by one, and return their results by the tasks' ids."""
    async with opened(where, mechanism, queue_name=name) as broker:
        broker.with_result_backend(build(where, "results", TWIN, prefix_str=name))
        await maybe_await(broker.startup())
        sent = [
            await maybe_await(kicker(broker, "work").kiq(number, seconds)) for number in numbers
        ]
        return {
            task.task_id: (await maybe_await(task.wait_result(timeout=TIMEOUT))).return_value
            for task in sent
        }


async def read(where: dict[str, Any], name: str, task_ids: list[str]) -> dict[str, Any]:
    """Return the results of tasks by their ids."""
    async with opened(where, "results", prefix_str=name) as backend:
        return {
            task_id: (await maybe_await(backend.get_result(task_id))).return_value
            for task_id in task_ids
        }


async def send(where: dict[str, Any], mechanism: str, form: str, name: str) -> None:
    """Send a task with arguments and labels of all kinds."""
    async with opened(where, mechanism, form, queue_name=name) as broker:
        sender = kicker(broker, "task").with_labels(**LABELS).with_task_id("id")
        await maybe_await(sender.kiq(*ARGUMENTS, **KEYWORDS))


async def declare(where: dict[str, Any], mechanism: str, name: str) -> None:
    """Start a broker as a worker does, which creates the consumer group."""
    async with opened(where, mechanism, queue_name=name) as broker:
        broker.is_worker_process = True
        await maybe_await(broker.startup())


async def receive(where: dict[str, Any], mechanism: str, form: str, name: str) -> dict[str, Any]:
    """Receive one message from a queue, and describe it."""
    async with opened(where, mechanism, form, queue_name=name) as broker:
        messages = broker.listen()
        try:
            data = next(messages) if TWIN else await anext(messages)
            if isinstance(data, AckableMessage):
                await maybe_await(data.ack())
                data = data.data
        finally:
            await maybe_await(messages.close() if TWIN else messages.aclose())
        message = broker.formatter.loads(data)
        message.parse_labels()
        return {
            "task": [message.task_id, message.task_name],
            "args": repr(message.args),
            "kwargs": repr(message.kwargs),
            "labels": {name: repr(value) for name, value in message.labels.items()},
        }


async def store_results(
    where: dict[str, Any], form: str, name: str, **options: Any
) -> dict[str, str | None]:
    """Store results of all kinds; return the name of the error of each case, or None."""
    errors: dict[str, str | None] = {}
    async with opened(where, "results", form, prefix_str=name, **options) as backend:
        for case, outcome in OUTCOMES.items():
            fields = {"return_value": None, "labels": {}, **outcome}
            result = TaskiqResult(is_err="error" in outcome, execution_time=0.25, **fields)
            try:
                await maybe_await(backend.set_result(case, result))
                errors[case] = None
            except Exception as error:
                errors[case] = type(error).__name__
        await maybe_await(
            backend.set_progress("int", TaskProgress(state=TaskState.STARTED, meta=[1]))
        )
        await maybe_await(backend.set_progress("str", TaskProgress(state="custom", meta=None)))
    return errors


async def read_results(
    where: dict[str, Any], form: str, name: str, **options: Any
) -> dict[str, list[str]]:
    """Read results and progress of all kinds, and return them as text."""
    found: dict[str, list[str]] = {}
    async with opened(where, "results", form, prefix_str=name, **options) as backend:
        for case in OUTCOMES:
            if not await maybe_await(backend.is_result_ready(case)):
                continue
            progress = await maybe_await(backend.get_progress(case))
            try:
                result = await maybe_await(backend.get_result(case, with_logs=True))
            except ResultGetError as error:
                found[case] = [type(error).__name__]
                continue
            # The `repr` of a model may differ between versions of pydantic.
            shown = (result.is_err, result.return_value, result.error, result.log, result.labels)
            found[case] = [*map(repr, shown), repr(progress and progress.model_dump(mode="json"))]
    return found


def scheduled(schedule_id: str, when: dict[str, Any]) -> ScheduledTask:
    """Create a schedule."""
    return ScheduledTask(
        task_name="work",
        labels={"l": "1"},
        args=[1, "ü"],
        kwargs={"k": [1, None]},
        schedule_id=schedule_id,
        **when,
    )


async def add_schedules(
    where: dict[str, Any], mechanism: str, form: str, name: str, past: str
) -> None:
    """Add schedules of all kinds."""
    async with opened(where, mechanism, form, prefix=name) as source:
        await maybe_await(source.startup())
        for schedule_id, when in schedules(datetime.fromisoformat(past)).items():
            await maybe_await(source.add_schedule(scheduled(schedule_id, when)))


async def add_schedule(
    where: dict[str, Any], mechanism: str, name: str, number: int, when: dict[str, Any]
) -> None:
    """Add a schedule of the task `work`, with its number as id."""
    if "time" in when:
        when = {"time": datetime.fromisoformat(when["time"])}
    async with opened(where, mechanism, prefix=name) as source:
        task = scheduled(str(number), when).model_copy(update={"args": [number], "kwargs": {}})
        await maybe_await(source.add_schedule(task))


async def list_schedules(
    where: dict[str, Any], mechanism: str, form: str, name: str
) -> dict[str, Any]:
    """Return the schedules that a scheduler gets, by id."""
    async with opened(where, mechanism, form, prefix=name) as source:
        await maybe_await(source.startup())
        return {
            task.schedule_id: task.model_dump(mode="json")
            for task in await maybe_await(source.get_schedules())
        }


async def delete_schedules(
    where: dict[str, Any], mechanism: str, form: str, name: str, schedule_ids: list[str]
) -> None:
    """Delete schedules."""
    async with opened(where, mechanism, form, prefix=name) as source:
        for schedule_id in schedule_ids:
            await maybe_await(source.delete_schedule(schedule_id))


async def names(where: dict[str, Any]) -> dict[str, dict[str, list[str] | None]]:
    """Return the names of each mechanism's object, with the parameters of methods, or None."""
    found: dict[str, dict[str, list[str] | None]] = {}
    for mechanism in CLASSES[where["kind"]]:
        async with opened(where, mechanism) as made:
            found[mechanism] = {
                name: parameters(getattr(made, name))
                for name in dir(made)
                if not name.startswith(("__", "_abc_"))
            }
    return found


def parameters(value: Any) -> list[str] | None:
    """Return the names of the parameters of a method."""
    return list(inspect.signature(value).parameters) if inspect.ismethod(value) else None


async def about() -> dict[str, Any]:
    """Return the version and the twin of this peer."""
    return {"old": OLD, "twin": TWIN}


async def answer(line: str) -> dict[str, Any]:
    """Run the call of a line, and return its reply."""
    try:
        call = json.loads(line)
        return {"returned": await globals()[call["function"]](**call["arguments"])}
    except Exception:
        return {"raised": traceback.format_exc()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(asyncio.run(answer(line))), flush=True)
