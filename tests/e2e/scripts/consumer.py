"""Consume and acknowledge messages in a blocking program, and end in one of several ways."""

import signal
import sys
import time
from contextlib import nullcontext
from types import FrameType

from taskiq import AckableMessage

from tests.e2e.apps.twins import note, sync_broker

#: a module variable, so Python closes it at exit if nothing else does
messages = sync_broker.listen()


def shut_down(number: int, frame: FrameType | None) -> None:
    sync_broker.shutdown()


def stop(number: int, frame: FrameType | None) -> None:
    sync_broker.stop()


def leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def consume(seconds: float, last: str) -> None:
    for message in messages:
        data = message.data if isinstance(message, AckableMessage) else message
        task = sync_broker.formatter.loads(data)
        time.sleep(seconds)
        note(task.args[0])
        print("took", task.args[0], flush=True)
        if isinstance(message, AckableMessage):
            message.ack()
        if task.args[0] == last:
            sys.exit(0)


if __name__ == "__main__":
    end, seconds = sys.argv[1], float(sys.argv[2])
    handlers = {"shutdown": shut_down, "stop": stop, "exit": leave}
    if end in handlers:
        signal.signal(signal.SIGTERM, handlers[end])
    try:
        with sync_broker if end == "stop" else nullcontext():
            consume(seconds, last=end)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print("done", flush=True)
