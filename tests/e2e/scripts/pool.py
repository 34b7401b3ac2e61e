"""Send and wait in 32 threads with one broker."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.e2e.apps.twins import record, report, sync_broker, sync_results
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

THREADS = 32
EACH = 5
#: passed when all threads have started; otherwise, the pool would use one again that is done
started = Barrier(THREADS)


def send(number: int) -> None:
    started.wait(TIMEOUT)
    for turn in range(EACH):
        what = f"{number}.{turn}"
        task = sync_broker.kicker(record).kiq(what)
        assert task.wait_result(timeout=TIMEOUT, check_interval=0.05).return_value == what


def watch(_: int) -> None:
    task = sync_broker.kicker(report).kiq(3)
    seen: set[int] = set()
    while not sync_results.is_result_ready(task.task_id):
        progress = sync_results.get_progress(task.task_id)
        seen.add(progress.meta if progress else 0)
    assert sync_results.get_result(task.task_id).return_value == "3 steps"
    assert seen <= {0, 1, 2, 3}


if __name__ == "__main__":
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, range(THREADS)))
        list(pool.map(watch, range(4)))
        # The threads and their connections still exist.
        pause()
    sync_broker.shutdown()
    pause()
