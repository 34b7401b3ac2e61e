"""Send in the parent, in child processes, and in the parent again."""

import multiprocessing
import sys
from typing import Any

from tests.e2e.apps.twins import record, sync_broker, sync_source
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

PROCESSES = 2


def send(sender: str) -> str:
    sent = [sync_broker.kicker(record).kiq(f"{sender} {number}") for number in range(5)]
    for task in sent:
        task.wait_result(timeout=TIMEOUT)
    return str(
        sync_broker.kicker(record).kiq(f"{sender} last").wait_result(timeout=TIMEOUT).return_value
    )


def main(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    sync_source.get_schedules()
    send("before")
    with context.Pool(PROCESSES) as pool:
        answer = pool.map_async(send, [f"pool {number}" for number in range(4)])
        send("beside")
        assert answer.get(TIMEOUT) == [f"pool {number} last" for number in range(4)]
        pool.close()
        pool.join()
    process = context.Process(target=send, args=["process"])
    process.start()
    process.join()
    assert process.exitcode == 0
    send("after")
    sync_broker.shutdown()
    sync_source.shutdown()
    pause()


if __name__ == "__main__":
    main(sys.argv[1])
