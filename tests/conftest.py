"""Fixtures for all tests: servers, unique names, and checks for leaked keys and threads."""

import contextlib
import gc
import secrets
import signal
import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from taskiq_redis._core import notices
from tests.leaks import check_texts, no_leaks
from tests.servers import (
    KINDS,
    THREAD_PREFIX,
    RemoteServers,
    ServerHost,
    Servers,
    Topology,
    Unavailable,
    close_clients,
    delete_keys,
    is_required,
)
from tests.waiting import wait_until

__all__ = ["no_leaks"]

_HOST = pytest.StashKey[ServerHost]()

# Prefixes of threads that outlive a test: they serve the whole run, or are idle in a pool.
_SHARED_THREADS = (
    "MainThread",
    THREAD_PREFIX,
    "AnyIO worker thread",
    "Trio thread",
    "asyncio_",
    "Dummy-",
    "execnet",
    "pytest",
)

#: folders whose tests run on one topology by default, and on the others in `nox -s full`: they start
#: programs, try each await point, or are generated from tests that run on all topologies
_ON_ONE_TOPOLOGY = {"_sync", "e2e", "loops"}
#: folders whose tests run without sentinels by default: behind a sentinel is a single server, so
#: tests that don't open or lose connections repeat there what they do on one
_WITHOUT_SENTINELS = {"_async"}
#: modules of these folders that test connections
_ABOUT_CONNECTIONS = {
    "test_bad_input.py",
    "test_connection_counts.py",
    "test_connections.py",
    "test_idle_connections.py",
    "test_rotating_credentials.py",
    "test_secrets.py",
    "test_subscriptions.py",
    "test_tls.py",
    "test_wrong_servers.py",
}


def pytest_configure() -> None:
    """Check texts for secrets, and let programs that tests start receive SIGINT.

    They receive it also if pytest runs in the background (`&`).

    A shell lets background processes ignore SIGINT, and their children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    check_texts()
    # Asynchronous tests also call blocking classes.
    notices._seen_in_loop = True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that `nox -s full` runs because their topology is covered elsewhere."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        topology = params.get("topology", "single")
        if topology != "single" and not item.get_closest_marker("smoke"):
            folders = set(item.path.parts[:-1])
            if not _ON_ONE_TOPOLOGY.isdisjoint(folders) or (
                topology == "sentinel"
                and not _WITHOUT_SENTINELS.isdisjoint(folders)
                and item.path.name not in _ABOUT_CONNECTIONS
                and not _chooses_topologies(item)
            ):
                item.add_marker(pytest.mark.full)


def _chooses_topologies(item: pytest.Item) -> bool:
    """Return whether a test is meant for certain topologies."""
    return any("topology" in mark.args[:1] for mark in item.iter_markers("parametrize"))


def pytest_collection_finish() -> None:
    """Spare garbage collections the thousands of collected tests, which live until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Let the last garbage collections and `gc.get_referrers` see all objects again."""
    gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker of a distributed run the address of the server host."""
    stash = node.config.stash
    if _HOST not in stash:
        stash[_HOST] = ServerHost()
    node.workerinput["taskiq_redis_servers"] = stash[_HOST].ticket


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the servers of a distributed run, after the last worker has ended."""
    if _HOST in config.stash:
        config.stash[_HOST].close()


def _skip_if_unavailable() -> Generator[None, Any, Any]:
    try:
        return (yield)
    except Unavailable as exc:
        if is_required():
            raise
        pytest.skip(str(exc))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    """Skip a test whose fixtures need a server that isn't available."""
    return (yield from _skip_if_unavailable())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    """Skip a test that starts a private server if none is available."""
    return (yield from _skip_if_unavailable())


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, unless a test says otherwise."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_servers(pytestconfig: pytest.Config) -> Iterator[Servers | RemoteServers]:
    """The servers that all tests share; in a worker, a client of the controller's."""
    ticket = getattr(pytestconfig, "workerinput", {}).get("taskiq_redis_servers")
    with contextlib.closing(RemoteServers(*ticket) if ticket else Servers()) as owner:
        yield owner
        close_clients()


@pytest.fixture(params=KINDS)
def topology(request: pytest.FixtureRequest, shared_servers: Servers | RemoteServers) -> Topology:
    """A running topology of each kind in turn, shared by all tests and never flushed.

    `@pytest.mark.parametrize("topology", ["single"], indirect=True)` narrows it.
    """
    return shared_servers.topology(request.param)


@pytest.fixture
def name() -> str:
    """A unique string for names of queues and for prefixes."""
    return f"t-{secrets.token_hex(5)}"


@pytest.fixture(autouse=True)
def _no_keys_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Delete the keys of a test that used shared servers."""
    if not {"topology", "name"} <= set(request.fixturenames):
        yield
        return
    # Requested before the test's other fixtures, so that it deletes their keys after they end.
    used: Topology = request.getfixturevalue("topology")
    own_name: str = request.getfixturevalue("name")
    yield
    delete_keys(used, f"*{own_name}*")


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield

    def left() -> list[str]:
        new = set(threading.enumerate()) - before
        return [thread.name for thread in new if not thread.name.startswith(_SHARED_THREADS)]

    try:
        wait_until(lambda: not left())
    except TimeoutError:
        pytest.fail(f"the test left threads behind: {', '.join(left())}")
