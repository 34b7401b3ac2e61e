"""A broker with one of taskiq's retry middlewares, and tasks that fail."""

from taskiq import (
    Context,
    SimpleRetryMiddleware,
    SmartRetryMiddleware,
    TaskiqDepends,
    TaskiqScheduler,
)

from tests.e2e.recorder import RECORDS, record
from tests.e2e.setting import SETTING

broker = SETTING.broker()
options = dict(SETTING.extras)
kind = options.pop("kind", "simple")
sources = [SETTING.source(options.pop("source"))] if "source" in options else []

if kind == "simple":
    broker.add_middlewares(SimpleRetryMiddleware(**options))
else:
    source = sources[0] if sources else None
    broker.add_middlewares(SmartRetryMiddleware(schedule_source=source, **options))

scheduler = TaskiqScheduler(broker, sources)


@broker.task(retry_on_error=True, max_retries=10)
async def fail_at_first(times: int, context: Context = TaskiqDepends()) -> int:
    """Raise an error `times` times, and then return the number of runs."""
    message = context.message
    record("run", task=message.task_id, labels=message.labels, args=message.args)
    runs = RECORDS.count("run", task=message.task_id)
    if runs <= times:
        raise ValueError("as it should")
    return runs


@broker.task(retry_on_error=True, max_retries=3)
async def fail_always(context: Context = TaskiqDepends()) -> None:
    """Raise an error at each run."""
    record("run", task=context.message.task_id)
    raise ValueError("as it should")


@broker.task
async def fail_once_for_all(context: Context = TaskiqDepends()) -> None:
    """Raise an error; not to be retried."""
    record("run", task=context.message.task_id)
    raise ValueError("as it should")


@broker.task(retry_on_error=True, types_of_exceptions=[KeyError])
async def fail_otherwise(context: Context = TaskiqDepends()) -> None:
    """Raise an error of a type that isn't retried."""
    record("run", task=context.message.task_id)
    raise ValueError("as it should")


@broker.task(retry_on_error=True, delay=3600)
async def succeed() -> str:
    """Succeed at once, although a delay for retries is declared."""
    return "at once"


@broker.task(retry_on_error=True, max_retries=10, delay=2)
async def fail_with_delay(context: Context = TaskiqDepends()) -> int:
    """Raise an error at the first run, to be retried after a delay."""
    record("run", task=context.message.task_id)
    runs = RECORDS.count("run", task=context.message.task_id)
    if runs == 1:
        raise ValueError("as it should")
    return runs
