"""Growth measurements from blocking code: threads that send."""

from concurrent.futures import ThreadPoolExecutor

from redis import Redis
from subject import Subject, run

from taskiq_redis import SyncRedisStreamBroker

QUEUE = "bench:growth"


class Sender:
    """Send tasks from several threads."""

    def __init__(self, subject: Subject) -> None:
        self._client = Redis.from_url(subject.url)
        broker = SyncRedisStreamBroker(subject.url, queue_name=QUEUE)
        self._task = broker.register_task(lambda _: None, task_name="no_operation")
        subject.can("kiq", self.measure, self.prepare)

    def prepare(self, *_: int) -> None:
        """Empty the queue."""
        self._client.delete(QUEUE)

    def measure(self, number: int, threads: int, *_: int) -> None:
        """Send one after the other in each thread."""
        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(self._send, number // threads) for _ in range(threads)]:
                future.result()

    def _send(self, number: int) -> None:
        for index in range(number):
            self._task.kiq(index)


def make(subject: Subject) -> None:
    """Add all measurements."""
    Sender(subject)


if __name__ == "__main__":
    run(make)
