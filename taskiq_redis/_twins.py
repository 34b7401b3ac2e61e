"""From an async object to its blocking twin."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, overload

from taskiq import AsyncBroker, ScheduleSource
from taskiq.abc.result_backend import AsyncResultBackend
from taskiq.formatters.proxy_formatter import ProxyFormatter
from taskiq.result_backends.dummy import DummyResultBackend

from taskiq_redis._async.brokers.base import BaseBroker
from taskiq_redis._async.brokers.stream import StreamBroker
from taskiq_redis._async.results import ResultBackend
from taskiq_redis._async.schedules.base import BaseScheduleSource
from taskiq_redis._core.addresses import SentinelMaster, Server
from taskiq_redis._core.options import (
    QueueOptions,
    ResultOptions,
    ScheduleOptions,
    StreamOptions,
    read_back,
)
from taskiq_redis._sync.brokers.base import BaseBroker as BlockingBroker
from taskiq_redis._sync.results import ResultBackend as BlockingResultBackend
from taskiq_redis._sync.schedules.base import BaseScheduleSource as BlockingScheduleSource
from taskiq_redis._taskiq.broker import SyncBroker
from taskiq_redis._taskiq.result_backend import SyncResultBackend
from taskiq_redis._taskiq.schedule_source import SyncScheduleSource
from taskiq_redis.exceptions import NoBlockingTwinError

T = TypeVar("T")

#: where a class with a blocking twin is, and where the twin is
_ASYNC, _SYNC = "taskiq_redis._async.", "taskiq_redis._sync."


@overload
def to_sync(source: BaseBroker) -> BlockingBroker: ...


@overload
def to_sync(source: ResultBackend[T]) -> BlockingResultBackend[T]: ...


@overload
def to_sync(source: BaseScheduleSource) -> BlockingScheduleSource: ...


# Of what is declared as one of taskiq's own classes, no more is known.
@overload
def to_sync(source: AsyncBroker) -> SyncBroker: ...


@overload
def to_sync(source: AsyncResultBackend[T]) -> SyncResultBackend[T]: ...


@overload
def to_sync(source: ScheduleSource) -> SyncScheduleSource: ...


def to_sync(source: object) -> object:
    """Make the blocking twin of a broker, a result backend or a schedule source.

    It has the same server, names, serializer and options. The twin of a broker also has its
    formatter, its middlewares (which stay bound to the async broker), its id generator, its tasks
    and the twin of its result backend. Later changes of one don't reach the other, but for tasks
    and middlewares that are added to the async broker.

    Args:
        source: an object of a class of this package, or of a subclass, whose overridden methods
            the twin doesn't have.

    Raises:
        NoBlockingTwinError: it isn't one, or an option of it is for asyncio only.
    """
    if isinstance(source, BaseBroker):
        return _broker(source)
    if isinstance(source, ResultBackend):
        return _assemble(source, source.connection.server, read_back(source, ResultOptions))
    if isinstance(source, BaseScheduleSource):
        return _assemble(source, source.connection.server, read_back(source, ScheduleOptions))
    raise NoBlockingTwinError(
        what=f"A {type(source).__name__}",
        advice="Give a broker, result backend or schedule source of taskiq_redis.",
    )


def _broker(source: BaseBroker) -> Any:
    options = StreamOptions if isinstance(source, StreamBroker) else QueueOptions
    twin: Any = _assemble(source, source.connection.server, read_back(source, options))
    if options is StreamOptions:
        # Two consumers of one name would take each other's messages for their own.
        twin.consumer_name = StreamOptions().unique_consumer_name()
    twin.serializer = source.serializer
    twin.id_generator = source.id_generator
    twin.state = source.state
    # Not add_middlewares(): it would bind them to the twin, and an async worker's retries with it.
    twin.middlewares = source.middlewares
    twin.async_task_registry = source.local_task_registry
    # The default formatter uses its broker's serializer, so the twin has one of its own.
    if type(source.formatter) is not ProxyFormatter:
        twin.formatter = source.formatter
    if not isinstance(source.result_backend, DummyResultBackend):
        twin.result_backend = to_sync(source.result_backend)
    return twin


def _assemble(source: object, server: Server, options: object) -> Any:
    """Build an object of the twin class, past its public constructor, from the parts of another."""
    twin_class = _twin_class(type(source))
    twin: Any = object.__new__(twin_class)
    # The constructors of the mechanisms take the parts; those of the public classes make them.
    mechanism: Any = super(twin_class, twin)
    mechanism.__init__(_blocking_server(server), options)
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
    """Return the server, if a blocking client can have the options for it."""
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
