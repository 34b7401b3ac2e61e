"""Tasks that only `taskiq worker --fs-discover` imports, by the name of this file."""

from taskiq import Context, TaskiqDepends, async_shared_broker

from shop.broker import broker, sync_broker


@broker.task
async def from_async(number: int) -> str:
    return f"from_async {number}"


@sync_broker.task
def from_blocking(number: int) -> str:
    return f"from_blocking {number}"


@sync_broker.task
async def async_from_blocking(number: int) -> str:
    return f"async_from_blocking {number}"


@sync_broker.task("a name with spaces, ünïcode: and/slashes", priority=3)
def with_name(number: int, context: Context = TaskiqDepends()) -> str:
    return f"with_name {number} {context.message.labels['priority']}"


@async_shared_broker.task(task_name="shared")
def from_shared(number: int) -> str:
    return f"from_shared {number}"
