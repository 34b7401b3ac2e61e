"""Consume and acknowledge messages in an asyncio program, until a signal handler stops it.

It takes the same arguments as `consumer`, but the way to end is always `stop`.
"""

import asyncio
import signal
import sys
from contextlib import aclosing

from taskiq import AckableMessage
from taskiq.utils import maybe_awaitable

from tests.e2e.apps.twins import broker, note


async def consume(seconds: float) -> None:
    async with broker, aclosing(broker.listen()) as messages:
        async for message in messages:
            data = message.data if isinstance(message, AckableMessage) else message
            task = broker.formatter.loads(data)
            await asyncio.sleep(seconds)
            note(task.args[0])
            print("took", task.args[0], flush=True)
            if isinstance(message, AckableMessage):
                await maybe_awaitable(message.ack())


if __name__ == "__main__":
    # Not `loop.add_signal_handler`: `stop` may be called at any moment.
    signal.signal(signal.SIGTERM, lambda *_: broker.stop())
    asyncio.run(consume(float(sys.argv[2])))
    print("done", flush=True)
