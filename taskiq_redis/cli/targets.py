"""Open what a command works on: a broker or schedule source, by import path or server."""

import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from taskiq import AsyncBroker, ScheduleSource, TaskiqScheduler
from taskiq.cli.utils import import_object

import taskiq_redis
from taskiq_redis import (
    InMemoryScheduleSource,
    SyncBroker,
    SyncInMemoryScheduleSource,
    SyncScheduleSource,
    to_sync,
)
from taskiq_redis.exceptions import TaskIQRedisError

#: environment variables, for what shouldn't be seen in a list of processes
URL_VARIABLE, BROKER_VARIABLE = "TASKIQ_REDIS_URL", "TASKIQ_REDIS_BROKER"
#: such as ``app.tasks:broker``
SPEC = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
#: user and password of a URL
LOGIN = re.compile(r"://\S*@")
SENTINEL_PORT = 26379

#: the beginnings of class names by mechanism or kind, and their ends
BROKERS = {"stream": "RedisStream", "list": "ListQueue", "pubsub": "PubSub"}
SOURCES = {"indexed": "ListRedis", "keys": "Redis"}

HELP = (
    "Give MODULE:BROKER, as to `taskiq worker`, or the address of the server with --url; or set "
    f"{BROKER_VARIABLE} or {URL_VARIABLE}."
)


class CommandError(Exception):
    """A command can't be executed as it was given; the text says why, and what to do."""


@dataclass(frozen=True)
class Target:
    """What a command works on, as it was given.

    Args:
        spec: import path; None for a server.
        app_dir: folder to import it from, besides the current one.
        url: address of the server.
        cluster: whether that is a Redis Cluster.
        sentinel: name of the master, if it is that of sentinels.
        mechanism: ``stream``, ``list`` or ``pubsub``.
        queues: names of queues; empty for those of the broker.
        group: name of the consumer group.
        prefix: prefix of schedules.
        kind: ``indexed`` or ``keys``, of a schedule source.
        results: prefix of results.
        tracks: whether the records of tasks are read, see `track_tasks` of brokers.
    """

    spec: str | None = None
    app_dir: str | None = None
    url: str | None = None
    cluster: bool = False
    sentinel: str | None = None
    mechanism: str = "stream"
    queues: tuple[str, ...] = ()
    group: str | None = None
    prefix: str = "schedule"
    kind: str = "indexed"
    results: str | None = None
    tracks: bool = False


def is_spec(word: str) -> bool:
    """Return whether a word may be an import path."""
    return SPEC.fullmatch(word) is not None


def spec_and_url(spec: str | None, url: str | None) -> tuple[str | None, str | None]:
    """Return an import path or the address of a server; the environment is used if none is given.

    Args:
        spec: import path of the command line.
        url: option of the command line.
    """
    if spec and url:
        raise CommandError("Both MODULE:BROKER and --url are given. Give one.")
    if not spec and not url:
        spec = os.environ.get(BROKER_VARIABLE)
        url = None if spec else os.environ.get(URL_VARIABLE)
    if not spec and not url:
        raise CommandError(f"It is unclear which broker you mean. {HELP}")
    return spec, url


# --- Brokers


@contextmanager
def open_broker(target: Target) -> Iterator[Any]:
    """Yield the blocking broker of a target, and close it at the end.

    Args:
        target: the target.
    """
    found = broker_of_server(target) if target.spec is None else broker_of(load(target))
    # A blocking broker of the user's has hooks for its own startup and shutdown.
    is_ours = target.spec is None or not isinstance(found, SyncBroker)
    broker: Any = to_sync(found, middlewares=[]) if not isinstance(found, SyncBroker) else found
    if not hasattr(broker, "queue_name"):
        raise CommandError(f"A {type(broker).__name__} has no queue in Redis. {HELP}")
    check_group(target, broker)
    try:
        yield broker
    finally:
        if is_ours:
            broker.shutdown()


def broker_of_server(target: Target) -> SyncBroker:
    """Make the broker of a target that is given by its server."""
    options: dict[str, Any] = {"queue_name": target.queues[0]} if target.queues else {}
    if target.mechanism == "stream" and target.group:
        options["consumer_group_name"] = target.group
    if target.tracks:
        options["track_tasks"] = True
    broker: Any = make(target, f"Sync{BROKERS[target.mechanism]}", "Broker", options)
    prefix = {"prefix_str": target.results} if target.results else {}
    broker.result_backend = make(target, "SyncRedisAsync", "ResultBackend", prefix)
    return broker  # type: ignore[no-any-return]


def broker_of(found: object) -> Any:
    """Return the broker that was imported, or that of a scheduler."""
    if isinstance(found, TaskiqScheduler):
        found = found.broker
    if not isinstance(found, AsyncBroker | SyncBroker):
        raise CommandError(f"It is of type {type(found).__name__}, not a broker. {HELP}")
    return found


def check_group(target: Target, broker: Any) -> None:
    """Refuse the name of a group for a broker that has none."""
    if target.group and not hasattr(broker, "consumer_group_name"):
        raise CommandError("Lists and channels have no consumer groups. Leave out --group.")


def queues_of(target: Target, broker: Any) -> list[str]:
    """Return the queues that a command shows: those that are named, or all of the broker."""
    more = getattr(broker, "additional_streams", None) or {}
    return list(dict.fromkeys(target.queues or (broker.queue_name, *more)))


def changed_queues(target: Target, broker: Any) -> list[str]:
    """Return the queues that a command changes: those that are named, or the broker's own."""
    return list(dict.fromkeys(target.queues or (broker.queue_name,)))


def require(broker: Any, method: str, what: str) -> None:
    """Refuse a broker that can't do something.

    Args:
        broker: the broker.
        method: method that it would need.
        what: what it can't do, for the error.
    """
    if not hasattr(broker, method):
        raise CommandError(
            f"A {type(broker).__name__} {what}. Give another broker, or another --mechanism."
        )


# --- Schedule sources


@contextmanager
def open_sources(target: Target) -> Iterator[list[Any]]:
    """Yield the blocking schedule sources of a target, and close them at the end.

    Args:
        target: the target; all sources of this package that a scheduler has.
    """
    found = [source_of_server(target)] if target.spec is None else sources_of(load(target))
    sources: list[Any] = [
        each if isinstance(each, SyncScheduleSource) else to_sync(each) for each in found
    ]
    for source in sources:
        if not is_on_redis(source):
            raise CommandError(f"A {type(source).__name__} has no schedules in Redis.")
    try:
        yield sources
    finally:
        # Blocking ones of the user's are left to the user.
        for source, given in zip(sources, found, strict=True):
            if source is not given or target.spec is None:
                source.shutdown()


def is_on_redis(source: object) -> bool:
    """Return whether a schedule source is one of this package that keeps schedules in Redis."""
    is_in_memory = isinstance(source, InMemoryScheduleSource | SyncInMemoryScheduleSource)
    return hasattr(source, "schedulers") and not is_in_memory


def source_of_server(target: Target) -> Any:
    """Make the schedule source of a target that is given by its server."""
    kind = f"Sync{SOURCES[target.kind]}"
    return make(target, kind, "ScheduleSource", {"prefix": target.prefix})


def sources_of(found: object) -> list[Any]:
    """Return the schedule source that was imported, or those of a scheduler."""
    if isinstance(found, TaskiqScheduler):
        ours = [each for each in found.sources if is_on_redis(each)]
        if ours:
            return list(ours)
        raise CommandError("The scheduler has no schedule source of taskiq_redis.")
    if isinstance(found, ScheduleSource | SyncScheduleSource):
        return [found]
    raise CommandError(
        f"It is of type {type(found).__name__}, not a schedule source. Give MODULE:SOURCE or "
        "MODULE:SCHEDULER, or --url with --prefix."
    )


# --- Both


def load(target: Target) -> object:
    """Import what a target names, as taskiq's own commands do; call it if it is a function."""
    spec = target.spec or ""
    if not is_spec(spec):
        raise CommandError(f"{spec!r} is not an import path. Give it as MODULE:BROKER.")
    try:
        # What the module prints is no part of the answer.
        with redirect_stdout(sys.stderr):
            found = import_object(spec, app_dir=target.app_dir)
            found = found() if inspect.isfunction(found) else found
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"{spec!r} can't be imported: {reason_of(error)}. Run the command in the folder from "
            "which you start workers, or give --app-dir. If it is an ID, put MODULE:BROKER before "
            "it."
        ) from error
    if inspect.iscoroutine(found):
        found.close()
        raise CommandError(f"{spec!r} is an async function. Give a plain one, or the object.")
    return found


def reason_of(error: BaseException) -> str:
    """Return why something can't be imported: the error and where it was raised.

    Args:
        error: the error. Its text is left out if it may contain anything, also passwords.
    """
    name = type(error).__name__
    if isinstance(error, ImportError | AttributeError | TaskIQRedisError):
        return f"{name}: {LOGIN.sub('://', str(error))}"
    if isinstance(error, SyntaxError):
        return f"{name} in {error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    # A function that needs arguments raises here.
    is_theirs = frames and frames[-1].filename != __file__
    place = f" in {frames[-1].filename}, line {frames[-1].lineno}" if is_theirs else ""
    return f"{name}{place}"


def make(target: Target, first: str, last: str, options: dict[str, Any]) -> Any:
    """Make an object of a public class for the server of a target.

    Args:
        target: the target.
        first: beginning of the name of the class.
        last: end of its name.
        options: options besides those of the server.
    """
    if target.cluster and target.sentinel:
        raise CommandError("Both --cluster and --sentinel are given. Give one.")
    topology = "Cluster" if target.cluster else "Sentinel" if target.sentinel else ""
    made = getattr(taskiq_redis, f"{first}{topology}{last}")
    if not target.sentinel:
        return made(target.url, **options)
    sentinels, login = parse_sentinels(target.url or "")
    return made(sentinels, target.sentinel, **login, **options)


def parse_sentinels(url: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Return the addresses of sentinels, and connection options for the master.

    Args:
        url: ``redis://[user:password@]host:port,host:port[/db]``; the rest is about the master.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in {"redis", "rediss"} or not separator:
        raise _bad_sentinels()
    login, _, place = rest.rpartition("@")
    hosts, _, database = place.partition("/")
    addresses = [_address(scheme, host) for host in hosts.split(",")]
    username, _, password = login.partition(":")
    options: dict[str, Any] = {"username": unquote(username), "password": unquote(password)}
    options = {name: value for name, value in options.items() if value}
    if database:
        if not database.isdecimal():
            raise _bad_sentinels()
        options["db"] = int(database)
    if scheme == "rediss":
        options |= {"ssl": True, "sentinel_kwargs": {"ssl": True}}
    return addresses, options


def _address(scheme: str, host: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"{scheme}://{host}")
        if parts.hostname and not parts.query and not parts.path:
            return parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:
        pass
    raise _bad_sentinels()


def _bad_sentinels() -> CommandError:
    # Without the URL, which may contain a password.
    return CommandError(
        "The URL doesn't name sentinels. Give it as redis://user:password@host:26379,host:26379/0 "
        "with --sentinel MASTER."
    )


def split_words(words: Sequence[str], url: str | None) -> tuple[str | None, list[str]]:
    """Split the arguments of a command into the import path, if it is there, and IDs.

    Args:
        words: the arguments.
        url: option of the command line, instead of which an import path may be given.
    """
    if url is None and words and is_spec(words[0]):
        return words[0], list(words[1:])
    return None, list(words)
