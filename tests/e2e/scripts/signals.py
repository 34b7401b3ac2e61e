"""A program whose signal handler shuts the broker down, again and again while it sends."""

import random
import signal
from types import FrameType

from tests.e2e.apps.twins import record, sync_broker
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

COUNT = 80
#: s; a send takes about so long
LONGEST = 0.004


def shut_down(number: int, frame: FrameType | None) -> None:
    sync_broker.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, shut_down)
    for _ in range(COUNT):
        # Once during each send, at any moment of it.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, LONGEST))
        task = sync_broker.kicker(record).kiq("signal")
    task.wait_result(timeout=TIMEOUT)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sync_broker.shutdown()
    pause()
