"""Figures of queues for Prometheus; needs the extra ``prometheus``."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from taskiq import AsyncBroker

from taskiq_redis import GroupStats, QueueStats, SyncBroker, to_sync
from taskiq_redis.exceptions import InvalidOptionError

_logger = logging.getLogger("taskiq_redis")

#: figures of a queue: names, attributes of `QueueStats`, and descriptions
QUEUE_METRICS = (
    ("waiting_messages", "waiting", "Messages that no worker holds."),
    ("running_messages", "running", "Messages that workers hold."),
    ("delayed_messages", "delayed", "Messages that wait for their time."),
    ("dead_letters", "dead", "Messages that are not run any more."),
    ("oldest_age_seconds", "oldest_age", "How long the oldest waiting message waits."),
    ("next_due_seconds", "next_due", "Time until the next delayed message is due."),
    ("paused", "paused", "1 if workers fetch nothing, else 0."),
    ("subscribers", "subscribers", "Workers that listen to a channel."),
)
#: the same for a consumer group, of `GroupStats`
GROUP_METRICS = (
    ("lag_messages", "lag", "Messages that were never delivered to the group."),
    ("waiting_messages", "waiting", "Messages that no worker of the group holds."),
    ("running_messages", "running", "Messages that workers of the group hold."),
)
PREFIX = "taskiq_redis"


class QueueCollector(Collector):
    """Collects the state of queues whenever Prometheus asks.

    Register it with a registry: ``REGISTRY.register(QueueCollector(broker))``. What a broker
    can't know has no sample, such as the running messages of a list. If a queue can't be read,
    ``taskiq_redis_queue_up`` is 0, and its other figures are missing.

    Args:
        brokers: brokers of this package, async ones (of which the blocking twins are used) or
            blocking ones.
        queues: queues of each of them. Default the broker's own queue, and those of
            `additional_streams`.
        timeout: s; how long to wait for the server. Prometheus itself waits for 10 s by default.
            Default 5.

    Raises:
        InvalidOptionError: a broker has no queue in Redis, or two of them have the same queue.
    """

    def __init__(
        self,
        *brokers: AsyncBroker | SyncBroker,
        queues: Sequence[str] | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._timeout = timeout
        self._twins: list[Any] = [
            to_sync(broker, middlewares=[])
            for broker in brokers
            if not isinstance(broker, SyncBroker)
        ]
        given: list[Any] = [broker for broker in brokers if isinstance(broker, SyncBroker)]
        self._queues = [
            (broker, queue)
            for broker in (*self._twins, *given)
            for queue in (_queues_of(broker) if queues is None else dict.fromkeys(queues))
        ]
        names = [queue for _, queue in self._queues]
        for name in names:
            # Prometheus would refuse or mix samples with the same labels.
            if names.count(name) > 1:
                raise InvalidOptionError(
                    option="brokers",
                    problem=f"two of them have the queue {name!r}",
                    advice="Give each queue once, and those of another server to another process.",
                )
        self._pool = ThreadPoolExecutor(
            max(1, len(self._queues)), thread_name_prefix="taskiq_redis metrics"
        )
        #: reads that had not ended when their scrape did
        self._reads: dict[int, Future[QueueStats]] = {}
        self._failing: set[str] = set()

    def close(self) -> None:
        """Close the connections of the twins that it has made."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for twin in self._twins:
            twin.shutdown()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics without samples, so that registering reads nothing."""
        yield from _families().values()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics; an error makes ``taskiq_redis_queue_up`` 0."""
        families, began = _families(), time.monotonic()
        for (_, queue), read in self._start_reads():
            wait([read], max(0.0, began + self._timeout - time.monotonic()))
            stats = self._result(queue, read)
            families["queue_up"].add_metric([queue], int(stats is not None))
            if stats is not None:
                _add_queue(families, stats)
        families["scrape_duration_seconds"].add_metric([], time.monotonic() - began)
        yield from families.values()

    def _start_reads(self) -> list[tuple[tuple[Any, str], "Future[QueueStats]"]]:
        """Start reading each queue, unless the last read of it still waits for the server."""
        for index, (broker, queue) in enumerate(self._queues):
            if index not in self._reads or self._reads[index].done():
                self._reads[index] = self._pool.submit(broker.stats, queue)
        return list(zip(self._queues, self._reads.values(), strict=True))

    def _result(self, queue: str, read: "Future[QueueStats]") -> QueueStats | None:
        """Return the state of a queue, or None; log the first of several errors."""
        try:
            stats = read.result(timeout=0)
        except Exception as error:  # noqa: BLE001 - no error may end a scrape
            if queue not in self._failing:
                self._failing.add(queue)
                reason = error if str(error) else f"no reply within {self._timeout} s"
                _logger.warning("The queue %r can't be read for metrics: %s", queue, reason)
            return None
        self._failing.discard(queue)
        return stats


def _queues_of(broker: Any) -> list[str]:
    if not hasattr(broker, "queue_name"):
        raise InvalidOptionError(
            option="brokers",
            problem=f"a {type(broker).__name__} has no queue in Redis",
            advice="Give brokers of taskiq_redis.",
        )
    more = getattr(broker, "additional_streams", None) or {}
    return list(dict.fromkeys((broker.queue_name, *more)))


def _families() -> dict[str, GaugeMetricFamily]:
    """Return all metrics, without samples, by their names without prefix."""

    def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)

    described = [
        family("queue_up", "1 if the queue could be read, else 0.", "queue"),
        *(family(f"queue_{name}", text, "queue") for name, _, text in QUEUE_METRICS),
        *(family(f"group_{name}", text, "queue", "group") for name, _, text in GROUP_METRICS),
        family(
            "group_workers",
            "Workers by state: alive, expired (their leases), or unregistered (1.2.4).",
            "queue",
            "group",
            "state",
        ),
        family(
            "group_lease_age_seconds",
            "Time since the worker that is longest silent has renewed its leases.",
            "queue",
            "group",
        ),
        family("scrape_duration_seconds", "How long reading all queues took."),
    ]
    return {each.name.removeprefix(f"{PREFIX}_"): each for each in described}


def _add_queue(families: dict[str, GaugeMetricFamily], stats: QueueStats) -> None:
    """Add the samples of a queue."""
    for name, attribute, _ in QUEUE_METRICS:
        value = getattr(stats, attribute)
        if value is not None:
            families[f"queue_{name}"].add_metric([stats.queue_name], float(value))
    for group in stats.groups:
        _add_group(families, stats.queue_name, group)


def _add_group(families: dict[str, GaugeMetricFamily], queue: str, group: GroupStats) -> None:
    """Add the samples of a consumer group."""
    labels = [queue, group.name]
    for name, attribute, _ in GROUP_METRICS:
        families[f"group_{name}"].add_metric(labels, float(getattr(group, attribute)))
    states = ["unregistered"] * len(group.workers)
    for index, worker in enumerate(group.workers):
        if worker.registered:
            states[index] = "alive" if worker.is_alive else "expired"
    for state in ("alive", "expired", "unregistered"):
        families["group_workers"].add_metric([*labels, state], states.count(state))
    ages = [worker.lease_age for worker in group.workers if worker.lease_age is not None]
    if ages:
        families["group_lease_age_seconds"].add_metric(labels, max(ages))
