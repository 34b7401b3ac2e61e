"""Celery on Redis lists."""

from celery import Celery
from redis import Redis
from subject import Subject, run


def make(subject: Subject) -> None:
    """Add all measurements."""
    client = Redis.from_url(subject.url)
    app = Celery("bench", broker=subject.url)
    app.conf.task_default_queue = "bench:celery"

    @app.task(ignore_result=True)
    def no_operation() -> int:
        return 1

    def forget(_: int) -> None:
        client.delete("bench:celery")

    def kiq(number: int) -> None:
        for _ in range(number):
            no_operation.delay()

    subject.can("kiq", kiq, forget)


if __name__ == "__main__":
    run(make)
