"""dramatiq on Redis."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from subject import Subject, run


def make(subject: Subject) -> None:
    """Add all measurements."""
    broker = RedisBroker(url=subject.url, namespace="bench:dramatiq")
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name="bench")
    def no_operation() -> int:
        return 1

    def forget(_: int) -> None:
        broker.flush("bench")

    def kiq(number: int) -> None:
        for _ in range(number):
            no_operation.send()

    subject.can("kiq", kiq, forget)


if __name__ == "__main__":
    run(make)
