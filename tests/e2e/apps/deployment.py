"""A project while it is deployed: workers of the new version know one more task."""

import asyncio

from tests.e2e.recorder import RECORDS, record
from tests.e2e.setting import SETTING

broker = SETTING.broker()


@broker.task(task_name="kept")
async def kept(number: int) -> int:
    """Return the number; workers of both versions know this."""
    record("kept", number=number)
    return number


@broker.task(task_name="long")
async def long() -> str:
    """Wait until the test creates a file."""
    record("started")
    while not RECORDS.signal_file("go").exists():
        await asyncio.sleep(0.01)
    record("ended")
    return "done"


if SETTING.extras.get("version") == "new":

    @broker.task(task_name="added")
    async def added(number: int) -> int:
        """Return the number."""
        record("added", number=number)
        return number
