"""Call stop() in a signal handler, repeatedly, while the main thread sends."""

import random
import signal
from types import FrameType

from tests.e2e.apps.twins import record, sync_broker
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

COUNT = 80
#: s; about the duration of one send
LONGEST = 0.004


def stop(number: int, frame: FrameType | None) -> None:
    sync_broker.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, stop)
    for _ in range(COUNT):
        # Once per send, at a random moment.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, LONGEST))
        task = sync_broker.kicker(record).kiq("signal")
    task.wait_result(timeout=TIMEOUT)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sync_broker.shutdown()
    pause()
