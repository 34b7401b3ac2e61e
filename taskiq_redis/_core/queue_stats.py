"""What `stats()` of a broker returns."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class WorkerStats:
    """A worker of a consumer group.

    Args:
        name: its consumer name.
        running: number of messages that it holds.
        registered: whether it renews leases. A worker of taskiq-redis 1.2.4 doesn't, and the
            attributes below are None for it.
        host: name of its host.
        pid: ID of its process.
        version: its version of taskiq-redis.
        started: when it began to listen, by the server's clock.
        lease: s; duration of its leases.
        lease_age: s; time since it last renewed its leases.
    """

    name: str
    running: int
    registered: bool
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    started: datetime | None = None
    lease: float | None = None
    lease_age: float | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its leases haven't expired; False for a worker that isn't registered."""
        return self.lease is not None and self.lease_age is not None and self.lease_age < self.lease


@dataclass(frozen=True)
class GroupStats:
    """A consumer group of a stream.

    Args:
        name: its name.
        lag: number of messages that were never delivered to it.
        waiting: number of messages that no worker of it holds: those of `lag`, and those that
            were handed back.
        running: number of messages that its workers hold.
        workers: its workers, by name.
    """

    name: str
    lag: int
    waiting: int
    running: int
    workers: tuple[WorkerStats, ...]


@dataclass(frozen=True)
class QueueStats:
    """The state of a queue at one moment. An attribute that it can't have is None.

    Args:
        queue_name: the queue.
        kind: ``stream``, ``list`` or ``pubsub``.
        waiting: number of messages that no worker holds; with several groups, the largest number
            of one of them. None for pub/sub.
        running: number of messages that workers hold, with several groups those of all of them.
            None for lists and pub/sub.
        delayed: number of messages that wait for their time. None for pub/sub.
        dead: number of dead letters. None for pub/sub.
        oldest_age: s; how long the oldest of the waiting messages waits. None for lists and
            pub/sub, and if no message waits.
        next_due: s; time until the next delayed message is due, 0 if it is overdue. None if there
            is none.
        paused: whether workers don't fetch, see `pause`.
        groups: the consumer groups of a stream, by name.
        subscribers: number of workers that listen to a channel. None for streams and lists.
    """

    queue_name: str
    kind: str
    waiting: int | None = None
    running: int | None = None
    delayed: int | None = None
    dead: int | None = None
    oldest_age: float | None = None
    next_due: float | None = None
    paused: bool = False
    groups: tuple[GroupStats, ...] = ()
    subscribers: int | None = None
