"""An asyncio program that takes tasks off the queue itself, and acknowledges them by hand."""

import asyncio
import signal
import sys
from contextlib import aclosing

from taskiq import AckableMessage

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
                await message.ack()


if __name__ == "__main__":
    # A plain handler, which runs between any two instructions of the event loop's thread.
    signal.signal(signal.SIGTERM, lambda *_: broker.stop())
    asyncio.run(consume(float(sys.argv[2])))
    print("done", flush=True)
