"""Send, await and schedule tasks, and end in one of several ways."""

import sys
from datetime import datetime, timedelta, timezone

from tests.e2e.apps.twins import NAME, fail, record, report, sync_broker, sync_results, sync_source
from tests.e2e.scripts.support import pause
from tests.waiting import TIMEOUT


def send() -> None:
    sent = [sync_broker.kicker(record).kiq(f"plain {number}") for number in range(20)]
    for number, task in enumerate(sent):
        assert task.wait_result(timeout=TIMEOUT).return_value == f"plain {number}"
    assert isinstance(sync_broker.kicker(fail).kiq().wait_result(timeout=TIMEOUT).error, ValueError)
    reporting = sync_broker.kicker(report).kiq(5)
    assert reporting.wait_result(timeout=TIMEOUT).return_value == "5 steps"
    progress = sync_results.get_progress(reporting.task_id)
    assert progress is not None
    assert progress.meta == 5


def schedule() -> None:
    now = datetime.now(timezone.utc)
    kicker = sync_broker.kicker(record)
    kicker.schedule_by_time(sync_source, now, "scheduled")
    tomorrow = kicker.schedule_by_time(sync_source, now + timedelta(days=1), "by hand")
    tomorrow.unschedule()
    tomorrow.kiq().wait_result(timeout=TIMEOUT)


if __name__ == "__main__":
    end = sys.argv[1]
    if end == "shutdown":
        with sync_broker, sync_source:
            send()
            schedule()
        pause()
    else:
        send()
        schedule()
    if end == "exit":
        sys.exit("done")
    if end == "wait":
        print("waiting", flush=True)
        sync_broker.kicker(record).with_labels(queue_name=f"{NAME}:nobody").kiq("").wait_result()
