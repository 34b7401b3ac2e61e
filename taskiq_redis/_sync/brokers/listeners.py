# Generated from taskiq_redis/_async/brokers/listeners.py by scripts/unasync.py; edit that.

"""The listeners of a broker on a stream, and the entries that they have fetched."""

from dataclasses import dataclass, field
from typing import NamedTuple

from taskiq_redis._core.wire import StreamEntry
from taskiq_redis._sync.brokers.leases import LeaseKeeper


class Fetched(NamedTuple):
    """An entry that was delivered to this worker and is not handed over yet.

    Args:
        entry: the entry.
        keeper: keeps its lease.
        delivered_at: when it was delivered, by the monotonic clock.
        failures: number of failed deliveries.
        former_owner: the consumer that it was claimed from; '' if it is new.
        refused_for: ms; how long ago a worker refused it first, since it doesn't know the task.
            None if none did.
    """

    entry: StreamEntry
    keeper: LeaseKeeper
    delivered_at: float
    failures: int = 0
    former_owner: str = ""
    refused_for: int | None = None

    def release(self) -> None:
        """Forget the entry, since it isn't handed over."""
        self.keeper.release(self.entry.stream, self.entry.id)


@dataclass(eq=False)
class ListenerState:
    """One listener of a broker, from before it opens until its last lease has ended.

    Args:
        consumer_name: name of its consumer.
    """

    consumer_name: str
    #: one per hash slot
    keepers: list[LeaseKeeper] = field(default_factory=list)
    #: whether it reads, or is being opened
    is_reading: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether another listener may use the consumer name."""
        return not self.is_reading and all(keeper.ended for keeper in self.keepers)
