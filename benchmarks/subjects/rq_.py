"""RQ."""

from redis import Redis
from rq import Queue
from subject import Subject, run


def make(subject: Subject) -> None:
    """Add all measurements."""
    queue = Queue("bench", connection=Redis.from_url(subject.url))

    def forget(_: int) -> None:
        queue.empty()

    def kiq(number: int) -> None:
        for _ in range(number):
            queue.enqueue("operator.truth", 1)

    subject.can("kiq", kiq, forget)


if __name__ == "__main__":
    run(make)
