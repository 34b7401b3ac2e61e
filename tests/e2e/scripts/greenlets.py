"""Send from greenlets, with blocking calls patched by gevent."""

from gevent import monkey

monkey.patch_all()

import gevent.pool

from tests.e2e.apps.twins import record, report, sync_broker, sync_results
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT

GREENLETS = 100


def send(number: int) -> None:
    what = f"greenlet {number}"
    task = sync_broker.kicker(record).kiq(what)
    assert task.wait_result(timeout=TIMEOUT).return_value == what


def watch(_: int) -> None:
    task = sync_broker.kicker(report).kiq(3)
    while not sync_results.is_result_ready(task.task_id):
        sync_results.get_progress(task.task_id)
        gevent.sleep(0.05)


if __name__ == "__main__":
    pool = gevent.pool.Pool(GREENLETS)
    watching = [pool.spawn(watch, number) for number in range(3)]
    pool.map(send, range(GREENLETS - 3))
    gevent.joinall(watching, raise_error=True)
    sync_broker.shutdown()
    pause()
