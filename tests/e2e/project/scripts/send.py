"""A script that declares tasks and sends them; a worker imports it."""

import asyncio
import json
import sys

from taskiq_redis import to_sync
from tests.e2e.setting import SETTING

broker = SETTING.broker()
sync_broker = to_sync(broker)


@broker.task
async def from_async(number: int) -> str:
    return f"from_async {number}"


@sync_broker.task
def from_blocking(number: int) -> str:
    return f"from_blocking {number}"


async def main() -> list[str]:
    sent = await from_async.kiq(1)
    value = (await sent.wait_result(timeout=40)).return_value
    await broker.shutdown()
    return [from_async.task_name, value]


if __name__ == "__main__":
    with sync_broker:
        blocking = from_blocking.kiq(2).wait_result(timeout=40).return_value
        other = sync_broker.kicker(from_async).kiq(3).wait_result(timeout=40).return_value
    lines = [*asyncio.run(main()), from_blocking.task_name, blocking, other]
    json.dump(lines, sys.stdout)
