# Generated from tests/_async/support.py by scripts/unasync.py; edit that.

"""Helpers that build the objects under test on any topology, and inspect Redis."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from taskiq import AckableMessage, BrokerMessage, TaskiqResult

from taskiq_redis import (
    SyncListQueueBroker,
    SyncListQueueClusterBroker,
    SyncListQueueSentinelBroker,
    SyncListRedisClusterScheduleSource,
    SyncListRedisScheduleSource,
    SyncListRedisSentinelScheduleSource,
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
    SyncRedisAsyncClusterResultBackend,
    SyncRedisAsyncResultBackend,
    SyncRedisAsyncSentinelResultBackend,
    SyncRedisClusterScheduleSource,
    SyncRedisScheduleSource,
    SyncRedisSentinelScheduleSource,
    SyncRedisStreamBroker,
    SyncRedisStreamClusterBroker,
    SyncRedisStreamSentinelBroker,
)
from tests._threads import TIMEOUT, Running, wait_until
from tests.servers import Topology, client_of

CLASSES: dict[str, dict[str, Any]] = {
    "single": {
        "pubsub": SyncPubSubBroker,
        "list": SyncListQueueBroker,
        "stream": SyncRedisStreamBroker,
        "results": SyncRedisAsyncResultBackend,
        "keys": SyncRedisScheduleSource,
        "indexed": SyncListRedisScheduleSource,
    },
    "cluster": {
        "pubsub": SyncPubSubClusterBroker,
        "list": SyncListQueueClusterBroker,
        "stream": SyncRedisStreamClusterBroker,
        "results": SyncRedisAsyncClusterResultBackend,
        "keys": SyncRedisClusterScheduleSource,
        "indexed": SyncListRedisClusterScheduleSource,
    },
    "sentinel": {
        "pubsub": SyncPubSubSentinelBroker,
        "list": SyncListQueueSentinelBroker,
        "stream": SyncRedisStreamSentinelBroker,
        "results": SyncRedisAsyncSentinelResultBackend,
        "keys": SyncRedisSentinelScheduleSource,
        "indexed": SyncListRedisSentinelScheduleSource,
    },
}


def build(topology: Topology, mechanism: str, **options: Any) -> Any:
    """Build the broker, result backend or schedule source for a topology."""
    if topology.kind == "sentinel":
        where: tuple[Any, ...] = (list(topology.sentinels), topology.master_name)
    else:
        where = (topology.url,)
    if mechanism == "stream":
        # A blocking listener notices that it has to stop only between reads.
        options = {"xread_block": 200, **options}
    return CLASSES[topology.kind][mechanism](*where, **options)


@contextmanager
def opened(topology: Topology, mechanism: str, **options: Any) -> Any:
    """Build an object, and shut it down at the end."""
    made = build(topology, mechanism, **options)
    try:
        yield made
    finally:
        made.shutdown()


def message(data: bytes, **labels: Any) -> BrokerMessage:
    """Return a message as a formatter builds it."""
    return BrokerMessage(task_id="id", task_name="task", message=data, labels=labels)


def result(value: Any = None, **more: Any) -> TaskiqResult[Any]:
    """Return the result of a task that returned `value`."""
    return TaskiqResult(
        **{"is_err": False, "return_value": value, "execution_time": 0.5, "labels": {}, **more}
    )


def take(broker: Any, count: int, acknowledge: bool = True) -> list[bytes]:
    """Listen until `count` messages are received, and return their data.

    Messages that aren't acknowledged stay referenced, as if a worker were processing them.
    """
    messages = broker.listen()
    taken: list[bytes] = []
    held = vars(broker).setdefault("held_by_test", [])
    try:
        while len(taken) < count:
            received = next(messages)
            held += [] if acknowledge else [received]
            taken.append(data_of(received, acknowledge))
    finally:
        messages.close()
    return taken


def data_of(message: bytes | AckableMessage, acknowledge: bool = True) -> bytes:
    """Acknowledge a message, and return its data."""
    if isinstance(message, bytes):
        return message
    if acknowledge:
        call(message.ack)
    return message.data


def call(function: Any) -> None:
    """Call the acknowledgement function of a message."""
    function()


class Listener:
    """Collects the messages of a broker's `listen` in the background."""

    def __init__(self, broker: Any, acknowledge: bool = True) -> None:
        self.broker = broker
        self.got: list[bytes] = []
        #: messages that are not acknowledged
        self.held: list[bytes | AckableMessage] = []
        self._acknowledge = acknowledge
        self._running = Running(self._listen)

    def _listen(self) -> None:
        for received in self.broker.listen():
            self.held += [] if self._acknowledge else [received]
            self.got.append(data_of(received, self._acknowledge))

    def __enter__(self) -> Any:
        self._running.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.broker.shutdown()
        self._running.__exit__(*error)
        # An acknowledgement after the first shutdown has connected again.
        self.broker.shutdown()

    def has(self, *messages: bytes) -> bool:
        """Return whether exactly these messages were received, in any order."""
        return sorted(self.got) == sorted(messages)


def redis_of(topology: Topology) -> Any:
    """Return a blocking client that inspects Redis."""
    return client_of(topology)


def length(topology: Topology, mechanism: str, name: str) -> int:
    """Return the number of messages in a list or a stream."""
    client = redis_of(topology)
    return int(client.llen(name) if mechanism == "list" else client.xlen(name))


def on_all_nodes(topology: Topology, run: Callable[[Any], Any]) -> list[Any]:
    """Call a function with a client of every cluster node, of the master, or of the server."""
    client = client_of(topology)
    if topology.kind != "cluster":
        return [run(client)]
    return [run(client.get_redis_connection(node)) for node in client.get_nodes()]


def connections_named(topology: Topology, client_name: str) -> set[str]:
    """Return the ids of the connections with that client name."""
    clients = on_all_nodes(topology, lambda node: node.client_list())
    return {
        f"{client['laddr']} {client['id']}"
        for on_node in clients
        for client in on_node
        if client["name"] == client_name
    }


def channels_of(backend: Any) -> frozenset[str]:
    """Return the channels that a result backend is subscribed to."""
    subscription = backend._listener.get()._subscription
    return frozenset() if subscription is None else subscription.channels


def until_subscribed(topology: Topology, channel: str, count: int) -> None:
    """Wait until a channel has `count` subscribers."""

    def subscribed() -> bool:
        replies = on_all_nodes(topology, lambda node: node.pubsub_numsub(channel))
        return sum(number for reply in replies for _, number in reply) == count

    wait_until(subscribed)


class BackgroundWait:
    """Waits for results in the background."""

    def __init__(self, backend: Any, *task_ids: str, timeout: float = TIMEOUT) -> None:
        self._backend = backend
        self._task_ids = task_ids
        self._timeout = timeout
        self.values: dict[str, Any] = {}
        self._running = Running(self._wait)

    def _wait(self) -> None:
        found = self._backend.wait_results(self._task_ids, timeout=self._timeout)
        self.values = {task_id: found[task_id].return_value for task_id in self._task_ids}

    def __enter__(self) -> Any:
        self._running.__enter__()
        wait_until(self.listens)
        return self

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(*error)

    def listens(self) -> bool:
        """Return whether the channels of all results are subscribed."""
        keys = {self._backend._task_name(task_id) for task_id in self._task_ids}
        return keys <= channels_of(self._backend)

    def done(self) -> bool:
        """Return whether all results were received."""
        return bool(self.values)
