"""The counts that make up `QueueStats`, from the replies of scripts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskiq_redis._core.queue_stats import GroupStats, QueueStats, WorkerStats
from taskiq_redis._core.wire import as_str, text_pairs, time_at

#: number of values in the registration of a worker, see `renew.lua`
REGISTERED_VALUES = 6
#: maximum number of digits of a time in ms
MAX_DIGITS = 18


@dataclass
class GroupCount:
    """What was counted for a consumer group so far, over several calls of the script.

    Args:
        name: its name, as in Redis.
    """

    name: bytes | str
    #: where the next call goes on: see `stream_stats.lua`
    low: str = "0-0"
    high: str = "+"
    pending: str = "0-0"
    #: whether all entries that were delivered are counted
    all_delivered_counted: bool = False
    #: number of entries up to the last delivered one, and after it
    delivered: int = 0
    undelivered: int = 0
    #: IDs of the first entry that was not delivered, and of the first handed-back one; '' for none
    first: str = ""
    first_back: str = ""
    #: number of pending entries by consumer
    pending_by_consumer: Counter[str] = field(default_factory=Counter)
    #: names of its consumers, and the registrations of its workers
    consumers: list[str] = field(default_factory=list)
    registrations: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[bytes | str]:
        """The arguments of the next call."""
        return [self.name, self.low, self.high, self.pending]

    def record(self, reply: Sequence[Any]) -> None:
        """Record the reply of a call.

        Args:
            reply: what it returns for this group.
        """
        self.first, self.low, self.high, self.pending = map(as_str, reply[1:5])
        self.all_delivered_counted, self.delivered, self.undelivered = (
            bool(reply[5]),
            self.delivered + int(reply[6]),
            self.undelivered + int(reply[7]),
        )
        self.first_back = self.first_back or as_str(reply[8])
        for owner, number in reply[9]:
            self.pending_by_consumer[as_str(owner)] += int(number)
        if len(reply) > 10:
            self.consumers = [as_str(name) for name in reply[10]]
            self.registrations = dict(text_pairs(reply[11]))

    def stats(self, handed_back: str, length: int, now: int) -> GroupStats:
        """Return the state of the group.

        Args:
            handed_back: consumer for which handed-back entries are pending.
            length: length of the stream.
            now: ms of Unix time.
        """
        lag = max(0, length - self.delivered) if self.all_delivered_counted else self.undelivered
        workers = [
            worker_stats(
                name, self.pending_by_consumer[name], self.registrations.get(name, ""), now
            )
            for name in self.consumers
            if name != handed_back
        ]
        # One that has just begun to listen is no consumer yet.
        for name in self.registrations.keys() - set(self.consumers):
            worker = worker_stats(name, 0, self.registrations[name], now)
            workers += [worker] if worker.is_alive else []
        back = self.pending_by_consumer[handed_back]
        return GroupStats(
            name=as_str(self.name),
            lag=lag,
            waiting=lag + back,
            running=self.pending_by_consumer.total() - back,
            workers=tuple(sorted(workers, key=lambda worker: worker.name)),
        )


def worker_stats(name: str, running: int, registration: str, now: int) -> WorkerStats:
    """Return the state of a worker.

    Args:
        name: its consumer name.
        running: number of messages that it holds.
        registration: what it has registered, see `renew.lua`; '' for nothing. Values after the
            first two may be missing.
        now: ms of Unix time.
    """
    lease, seen, *others = registration.split(" ", REGISTERED_VALUES - 1) + [""] * 2
    if not (_is_number(lease) and _is_number(seen)):
        return WorkerStats(name, running, registered=False)
    started, pid, version, host = [*others, "", "", "", ""][:4]
    return WorkerStats(
        name,
        running,
        registered=True,
        host=host or None,
        pid=int(pid) if _is_number(pid) else None,
        version=version or None,
        started=time_at(int(started)) if _is_number(started) else None,
        lease=int(lease) / 1000,
        lease_age=max(0, now - int(seen)) / 1000,
    )


def queue_stats(
    kind: str,
    queue_name: str,
    state: Sequence[Any],
    length: int,
    first_id: str = "",
    groups: Iterable[GroupCount] = (),
    handed_back: str = "",
) -> QueueStats:
    """Return the state of a queue in a stream or list.

    Args:
        kind: ``stream`` or ``list``.
        queue_name: the queue.
        state: what `queue_state.lua` returns.
        length: number of its messages.
        first_id: ID of the first entry of a stream; '' for none.
        groups: the consumer groups of a stream.
        handed_back: consumer for which handed-back entries are pending.
    """
    now, delayed, due, dead, paused = state
    counts = sorted(groups, key=lambda count: as_str(count.name))
    stats = tuple(count.stats(handed_back, length, now) for count in counts)
    waiting = max((group.waiting for group in stats), default=length)
    oldest = [each for count in counts for each in (count.first, count.first_back) if each]
    if not counts and first_id:
        oldest = [first_id]
    next_due = float(as_str(due)) if due else None
    return QueueStats(
        queue_name=queue_name,
        kind=kind,
        waiting=waiting,
        running=sum(group.running for group in stats) if kind == "stream" else None,
        delayed=delayed,
        dead=dead,
        oldest_age=max((_age_of(each, now) for each in oldest), default=None),
        next_due=None if next_due is None else max(0.0, next_due - now) / 1000,
        paused=bool(paused),
        groups=stats,
    )


def _age_of(entry_id: str, now: int) -> float:
    return max(0, now - int(entry_id.partition("-")[0])) / 1000


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
