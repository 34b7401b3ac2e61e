"""A scheduler with all schedule sources of this package, and taskiq's `LabelScheduleSource`."""

from datetime import datetime, timezone
from typing import Any

from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqScheduler, TaskiqState
from taskiq.schedule_sources import LabelScheduleSource

from tests.e2e.recorder import record
from tests.e2e.setting import SETTING

broker = SETTING.broker()


@broker.task(
    colour="red",
    schedule=[
        {"interval": 1, "args": ["label"], "labels": {"shade": "dark"}},
        {"time": datetime(2020, 1, 1, tzinfo=timezone.utc), "args": ["old label"]},
    ],
)
async def note(what: str, more: Any = None, context: Context = TaskiqDepends()) -> None:
    """Record a run with its arguments and labels."""
    message = context.message
    labels = {name: value for name, value in message.labels.items() if name != "schedule"}
    record(what, more=more, task=message.task_id, labels=labels)


@broker.on_event(TaskiqEvents.CLIENT_STARTUP, TaskiqEvents.CLIENT_SHUTDOWN)
async def client_event(state: TaskiqState) -> None:
    record("client event")


scheduler = TaskiqScheduler(
    broker, [SETTING.source("keys"), SETTING.source("indexed"), LabelScheduleSource(broker)]
)
