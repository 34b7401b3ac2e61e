"""huey on Redis lists."""

from huey import RedisHuey
from redis import Redis
from subject import Subject, run


def make(subject: Subject) -> None:
    """Add all measurements."""
    client = Redis.from_url(subject.url)
    huey = RedisHuey("bench", url=subject.url, results=False)

    @huey.task()
    def no_operation() -> int:
        return 1

    def forget(_: int) -> None:
        client.delete("huey.redis.bench")

    def kiq(number: int) -> None:
        for _ in range(number):
            no_operation()

    subject.can("kiq", kiq, forget)


if __name__ == "__main__":
    run(make)
