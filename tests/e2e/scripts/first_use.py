"""Print the modules that are imported by the first use of each feature.

A fork during such an import would leave the module locked in the child, which would then hang.
"""

import asyncio
import sys
from datetime import datetime, timezone

from taskiq import TaskiqMessage, TaskiqMiddleware

from tests.e2e.apps.twins import record, sync_broker, sync_results, sync_source
from tests.waiting import TIMEOUT


class Slow(TaskiqMiddleware):
    """Has an async hook."""

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        await asyncio.sleep(0)
        return message


if __name__ == "__main__":
    loaded = set(sys.modules)
    kicker = sync_broker.with_middlewares(Slow()).kicker(record)
    kicker.kiq("first use").wait_result(timeout=TIMEOUT)
    sync_results.get_progress("nothing")
    kicker.schedule_by_time(sync_source, datetime.now(timezone.utc), "later")
    sync_source.get_schedules()
    sync_source.shutdown()
    sync_broker.shutdown()
    print(*sorted(set(sys.modules) - loaded))
