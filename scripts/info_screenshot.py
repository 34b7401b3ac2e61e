"""Write docs/info.svg: what ``taskiq-redis info`` shows of three queues on a real server.

python scripts/info_screenshot.py
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from taskiq_redis import SyncRedisStreamBroker  # noqa: E402
from taskiq_redis.cli.info import overview  # noqa: E402
from tests.servers import ServerProcess, Topology, client_of, close_client  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

PICTURE = ROOT / "docs" / "info.svg"
WIDTH = 84


@contextmanager
def worker(broker: Any, number: int) -> Iterator[None]:
    """Work on a number of messages for as long as the picture is taken."""
    messages = broker.listen()
    held = [next(messages) for _ in range(number)]
    try:
        yield
    finally:
        for message in held:
            message.ack()
        messages.close()
        broker.shutdown()


def send(broker: Any, number: int, **labels: Any) -> None:
    kicker = broker.kicker("task").with_labels(**labels)
    for _ in range(number):
        kicker.kiq()


def take(topology: Topology, stack: ExitStack) -> None:
    """Fill the queues, and write the picture."""
    url, client = topology.url, client_of(topology)
    mails = SyncRedisStreamBroker(url, queue_name="mails", xread_block=200)
    reports = SyncRedisStreamBroker(url, queue_name="reports", consumer_group_name="nightly")
    thumbnails = SyncRedisStreamBroker(url, queue_name="thumbnails")
    brokers = (mails, reports, thumbnails)
    send(mails, 5)
    for number in (2, 3):
        again = SyncRedisStreamBroker(url, queue_name="mails", xread_block=200)
        stack.enter_context(worker(again, number))
    send(mails, 1240)
    send(mails, 18, delay=750)
    send(reports, 12)
    send(thumbnails, 67)
    send(thumbnails, 3, delay=7500)
    client.xgroup_create("reports", "nightly", "0")
    client.xgroup_create("thumbnails", "taskiq", "0")
    client.xadd("{reports}:dead", {"data": b"", "dead-reason": "a picture"})
    reports.pause()
    wait_until(lambda: all(worker.is_alive for worker in mails.stats().groups[0].workers))
    console = Console(file=StringIO(), record=True, width=WIDTH)
    console.print(*overview([broker.stats() for broker in brokers]), sep="\n")
    PICTURE.write_text(console.export_svg(title="taskiq-redis info", unique_id="info"), "utf-8")
    for broker in brokers:
        broker.shutdown()


def main() -> None:
    with ServerProcess() as server:
        with ExitStack() as stack:
            take(server.topology, stack)
        close_client(server.url)


if __name__ == "__main__":
    main()
