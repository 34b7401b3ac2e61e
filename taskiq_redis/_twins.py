"""`to_sync`, which makes the blocking twin of an async object."""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, overload

from taskiq import AsyncBroker, InMemoryBroker, ScheduleSource, TaskiqMiddleware
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_redis._async.brokers.base import BaseBroker
from taskiq_redis._async.brokers.list_queue import (
    ListBroker,
    ListQueueBroker,
    ListQueueClusterBroker,
    ListQueueSentinelBroker,
)
from taskiq_redis._async.brokers.pubsub import (
    ChannelBroker,
    PubSubBroker,
    PubSubClusterBroker,
    PubSubSentinelBroker,
)
from taskiq_redis._async.brokers.stream import (
    RedisStreamBroker,
    RedisStreamClusterBroker,
    RedisStreamSentinelBroker,
)
from taskiq_redis._async.brokers.stream_broker import StreamBroker
from taskiq_redis._async.result_backends import (
    RedisAsyncClusterResultBackend,
    RedisAsyncResultBackend,
    RedisAsyncSentinelResultBackend,
)
from taskiq_redis._async.results import ResultBackend
from taskiq_redis._async.schedules.base import BaseScheduleSource
from taskiq_redis._async.schedules.key_per_schedule import (
    RedisClusterScheduleSource,
    RedisScheduleSource,
    RedisSentinelScheduleSource,
)
from taskiq_redis._async.schedules.lists import (
    ListRedisClusterScheduleSource,
    ListRedisScheduleSource,
    ListRedisSentinelScheduleSource,
)
from taskiq_redis._core.addresses import SentinelMaster, Server
from taskiq_redis._core.options import (
    ChannelOptions,
    QueueOptions,
    ResultOptions,
    ScheduleOptions,
    StoredQueueOptions,
    StreamOptions,
    read_back,
)
from taskiq_redis._core.signing import Signing
from taskiq_redis._sync.brokers.base import BaseBroker as BlockingBroker
from taskiq_redis._sync.brokers.list_queue import (
    SyncListQueueBroker,
    SyncListQueueClusterBroker,
    SyncListQueueSentinelBroker,
)
from taskiq_redis._sync.brokers.pubsub import (
    SyncPubSubBroker,
    SyncPubSubClusterBroker,
    SyncPubSubSentinelBroker,
)
from taskiq_redis._sync.brokers.stream import (
    SyncRedisStreamBroker,
    SyncRedisStreamClusterBroker,
    SyncRedisStreamSentinelBroker,
)
from taskiq_redis._sync.result_backends import (
    SyncRedisAsyncClusterResultBackend,
    SyncRedisAsyncResultBackend,
    SyncRedisAsyncSentinelResultBackend,
)
from taskiq_redis._sync.results import ResultBackend as BlockingResultBackend
from taskiq_redis._sync.schedules.base import BaseScheduleSource as BlockingScheduleSource
from taskiq_redis._sync.schedules.key_per_schedule import (
    SyncRedisClusterScheduleSource,
    SyncRedisScheduleSource,
    SyncRedisSentinelScheduleSource,
)
from taskiq_redis._sync.schedules.lists import (
    SyncListRedisClusterScheduleSource,
    SyncListRedisScheduleSource,
    SyncListRedisSentinelScheduleSource,
)
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.hooks import is_shared, loop_of_broker, overrides
from taskiq_redis._taskiq.memory_broker import SyncInMemoryBroker, twin_of_broker
from taskiq_redis._taskiq.memory_results import SyncInMemoryResultBackend, twin_of_results
from taskiq_redis._taskiq.memory_schedules import InMemoryScheduleSource, SyncInMemoryScheduleSource
from taskiq_redis._taskiq.misuse import Blocking
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis._taskiq.twin_records import record_twin
from taskiq_redis.exceptions import NoBlockingTwinError

T = TypeVar("T")
Middlewares = Sequence[TaskiqMiddleware] | None

#: prefixes of the modules of a class and of its twin
_ASYNC, _SYNC = "taskiq_redis._async.", "taskiq_redis._sync."

logger = logging.getLogger("taskiq_redis")


@overload
def to_sync(source: PubSubBroker, *, middlewares: Middlewares = None) -> SyncPubSubBroker: ...


@overload
def to_sync(
    source: PubSubClusterBroker, *, middlewares: Middlewares = None
) -> SyncPubSubClusterBroker: ...


@overload
def to_sync(
    source: PubSubSentinelBroker, *, middlewares: Middlewares = None
) -> SyncPubSubSentinelBroker: ...


@overload
def to_sync(source: ListQueueBroker, *, middlewares: Middlewares = None) -> SyncListQueueBroker: ...


@overload
def to_sync(
    source: ListQueueClusterBroker, *, middlewares: Middlewares = None
) -> SyncListQueueClusterBroker: ...


@overload
def to_sync(
    source: ListQueueSentinelBroker, *, middlewares: Middlewares = None
) -> SyncListQueueSentinelBroker: ...


@overload
def to_sync(
    source: RedisStreamBroker, *, middlewares: Middlewares = None
) -> SyncRedisStreamBroker: ...


@overload
def to_sync(
    source: RedisStreamClusterBroker, *, middlewares: Middlewares = None
) -> SyncRedisStreamClusterBroker: ...


@overload
def to_sync(
    source: RedisStreamSentinelBroker, *, middlewares: Middlewares = None
) -> SyncRedisStreamSentinelBroker: ...


@overload
def to_sync(source: RedisAsyncResultBackend[T]) -> SyncRedisAsyncResultBackend[T]: ...


@overload
def to_sync(source: RedisAsyncClusterResultBackend[T]) -> SyncRedisAsyncClusterResultBackend[T]: ...


@overload
def to_sync(
    source: RedisAsyncSentinelResultBackend[T],
) -> SyncRedisAsyncSentinelResultBackend[T]: ...


@overload
def to_sync(source: RedisScheduleSource) -> SyncRedisScheduleSource: ...


@overload
def to_sync(source: RedisClusterScheduleSource) -> SyncRedisClusterScheduleSource: ...


@overload
def to_sync(source: RedisSentinelScheduleSource) -> SyncRedisSentinelScheduleSource: ...


@overload
def to_sync(source: ListRedisScheduleSource) -> SyncListRedisScheduleSource: ...


@overload
def to_sync(source: ListRedisClusterScheduleSource) -> SyncListRedisClusterScheduleSource: ...


@overload
def to_sync(source: ListRedisSentinelScheduleSource) -> SyncListRedisSentinelScheduleSource: ...


# For tests without Redis.
@overload
def to_sync(source: InMemoryBroker, *, middlewares: Middlewares = None) -> SyncInMemoryBroker: ...


@overload
def to_sync(source: InmemoryResultBackend[T]) -> SyncInMemoryResultBackend[T]: ...


@overload
def to_sync(source: InMemoryScheduleSource) -> SyncInMemoryScheduleSource: ...


# For subclasses that users derive from a base class of this package.
@overload
def to_sync(source: BaseBroker, *, middlewares: Middlewares = None) -> BlockingBroker: ...


@overload
def to_sync(source: ResultBackend[T]) -> BlockingResultBackend[T]: ...


@overload
def to_sync(source: BaseScheduleSource) -> BlockingScheduleSource: ...


# For variables whose type is one of taskiq's base classes.
@overload
def to_sync(source: AsyncBroker, *, middlewares: Middlewares = None) -> SyncBroker: ...


@overload
def to_sync(source: AsyncResultBackend[T]) -> SyncResultBackend[T]: ...


@overload
def to_sync(source: ScheduleSource) -> SyncScheduleSource: ...


def to_sync(source: object, *, middlewares: Middlewares = None) -> object:
    """Return the blocking twin of a broker, a result backend or a schedule source.

    The twin has the same server, names, serializer, signer and options. The twin of a broker also
    has its formatter, its middlewares (which stay bound to the async broker), its id generator, its
    tasks and the twin of its result backend. Later changes of one object don't affect the other,
    except that tasks and middlewares added to the async broker are added to its twin.

    For tests, taskiq's `InMemoryBroker` and its result backend have a twin, too. They share their
    results. The twin runs tasks in place, whatever `await_inplace` is, and a task that such a task
    sends by the async broker runs beside it, and ends before `kiq` of the twin returns.

    Args:
        source: an object of a class of this package, or of a subclass; or an `InMemoryBroker` of
            taskiq or its result backend. The twin doesn't have the methods that a subclass
            overrides.
        middlewares: middlewares for the twin of a broker, instead of those of the broker. New ones
            belong to the twin, which starts and stops them. Default those of the broker: the twin
            runs their `pre_send` and `post_send`, on the event loop of the broker if it runs.

    Raises:
        NoBlockingTwinError: the object has no twin, or has an option that only asyncio can use.
    """
    twin = _twin_of(source, middlewares)
    record_twin(source, twin)
    return twin


def _twin_of(source: object, middlewares: Middlewares) -> Any:
    if isinstance(source, BaseBroker):
        return _broker_twin(source, middlewares)
    if isinstance(source, InMemoryBroker):
        return _memory_twin(source, middlewares)
    if isinstance(source, InmemoryResultBackend):
        return twin_of_results(source)
    if isinstance(source, InMemoryScheduleSource):
        return SyncInMemoryScheduleSource(source)
    if isinstance(source, ResultBackend):
        return _make_twin(source, source._connection.server, read_back(source, ResultOptions))
    if isinstance(source, BaseScheduleSource):
        return _make_twin(source, source._connection.server, read_back(source, ScheduleOptions))
    if isinstance(source, Blocking):
        raise NoBlockingTwinError(
            what=f"A {type(source).__name__}", advice="It is blocking itself: use it as it is."
        )
    raise NoBlockingTwinError(
        what=f"A {type(source).__name__}",
        advice="Give a broker, result backend or schedule source of taskiq_redis.",
    )


def _broker_twin(source: BaseBroker, middlewares: Middlewares) -> Any:
    options = read_back(source, _queue_options(source))
    twin: Any = _make_twin(source, source._connection.server, options)
    if isinstance(source, StreamBroker):
        # Two consumers with one name would take over each other's messages.
        twin.consumer_name = twin._unique_name
    twin._allowed_queues = source._allowed_queues
    _share(source, twin, middlewares)
    return twin


def _memory_twin(source: InMemoryBroker, middlewares: Middlewares) -> SyncInMemoryBroker:
    twin = twin_of_broker(source)
    _share(source, twin, middlewares)
    return twin


def _share(source: AsyncBroker, twin: Any, middlewares: Middlewares) -> None:
    """Give the twin of a broker the serializer, tasks, middlewares and so on of the broker."""
    twin.serializer = source.serializer
    twin.id_generator = source.id_generator
    twin.state = source.state
    if middlewares is None:
        _warn_unstarted(source)
        # Not by add_middlewares(), which would bind them to the twin: a worker needs them to retry.
        twin.middlewares, twin._shares_middlewares = source.middlewares, True
    else:
        for middleware in middlewares:
            if is_shared(middleware):
                twin.middlewares.append(middleware)
            else:
                twin.add_middlewares(middleware)
    twin.async_task_registry = source.local_task_registry
    # The default formatter uses its broker's serializer, so the twin keeps its own.
    if type(source.formatter) is not ProxyFormatter:
        twin.formatter = source.formatter
    if not isinstance(source.result_backend, DummyResultBackend):
        twin.with_result_backend(to_sync(source.result_backend))


def _warn_unstarted(source: AsyncBroker) -> None:
    """Log middlewares that need their `startup`, unless the async broker has run it."""
    for middleware in source.middlewares:
        kind = type(middleware)
        sends = overrides(kind, "pre_send") or overrides(kind, "post_send")
        if overrides(kind, "startup") and sends and loop_of_broker(source) is None:
            logger.warning(
                "The blocking twin runs hooks of %s, but not its `startup` and `shutdown`: the "
                "middleware belongs to the async broker. If this process doesn't start that "
                "broker, give the twin its own middlewares: `to_sync(broker, middlewares=[...])`. "
                "If it does, share them: `to_sync(broker, middlewares=broker.middlewares)`.",
                kind.__name__,
            )


def _queue_options(source: BaseBroker) -> type[QueueOptions]:
    """Return the class of a broker's options."""
    if isinstance(source, StreamBroker):
        return StreamOptions
    if isinstance(source, ListBroker):
        return StoredQueueOptions
    return ChannelOptions if isinstance(source, ChannelBroker) else QueueOptions


def _make_twin(source: Signing, server: Server, options: object) -> Any:
    """Build an object of the twin class from a server and options, without its constructor."""
    twin_class = _twin_class(type(source))
    twin: Any = object.__new__(twin_class)
    # The constructor of the base class takes them; the public one makes them from its arguments.
    base: Any = super(twin_class, twin)
    base.__init__(_blocking_server(server), options)
    twin._value_signer = source._value_signer
    return twin


def _twin_class(source: type) -> Any:
    for base in source.__mro__:
        if base.__module__.startswith(_ASYNC):
            module = importlib.import_module(base.__module__.replace(_ASYNC, _SYNC))
            twin = getattr(module, f"Sync{base.__name__}", None)
            if isinstance(twin, type):
                return twin
    raise NoBlockingTwinError(
        what=f"A {source.__name__}", advice="Give an object of a public class of taskiq_redis."
    )


def _blocking_server(server: Server) -> Server:
    """Return the server, or refuse connection options that only asyncio can use."""
    _check_options(server.connection_kwargs)
    if isinstance(server, SentinelMaster):
        _check_options(server.sentinel_kwargs or {})
    return server


def _check_options(options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if _is_for_asyncio(value):
            raise NoBlockingTwinError(
                what=f"The connection option `{option}`",
                advice="Build the blocking object with an option of its own.",
            )


def _is_for_asyncio(value: object) -> bool:
    if inspect.iscoroutinefunction(value):
        return True
    kind = value if inspect.isclass(value) else type(value)
    return any(base.__module__.startswith(("redis.asyncio", "asyncio")) for base in kind.__mro__)
