"""Local server processes, alone or as a group."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from typing_extensions import Self

from tests.servers.clients import close_client
from tests.servers.configuration import PORTS_NEEDED, Plan, data_plan
from tests.servers.ports import lease_port, release_port
from tests.servers.probes import describe, node_url, single_is_ready
from tests.servers.sources import local_executable
from tests.servers.topologies import HOST, Address, Kind, ServerError, Topology
from tests.waiting import TIMEOUT, wait_until

THREAD_PREFIX = "taskiq-redis-servers"
# Run by a short-lived Python that execs the server. It asks Linux to kill the server when the
# thread that started it ends; `preexec_fn` would have to fork a process with threads for that.
_LAUNCHER = """
import ctypes, os, sys
if sys.platform.startswith("linux"):
    PR_SET_PDEATHSIG, SIGKILL = 1, 9
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the process that started this server has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _starter() -> ThreadPoolExecutor:
    # Linux watches the thread, not the process, and a test may restart a server from a thread
    # that ends soon. So one thread starts all servers and lives as long as the process.
    return ThreadPoolExecutor(1, thread_name_prefix=THREAD_PREFIX)


class ServerProcess:
    """One local server process: a private single server, or a part of a larger topology.

    Port, directory and configuration stay the same until `close`, so a server that was stopped or
    killed restarts at the same address with its persisted data.
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
                # Ctrl-C in the terminal must reach only the tests, which then stop the servers.
                start_new_session=True,
            )
            self._process = _starter().submit(start).result()

    def wait_ready(self, timeout: float = TIMEOUT) -> None:
        """Wait until the server answers; if it doesn't, raise an error with the end of its log."""
        try:
            wait_until(self._is_ready, timeout=timeout, what=f"a server on port {self.port}")
        except TimeoutError as exc:
            msg = f"{exc}\n{self.log_tail()}"
            raise ServerError(msg) from exc

    def _is_ready(self) -> bool:
        self.check_running()
        return single_is_ready(self.url)

    def check_running(self) -> None:
        """Raise an error with the end of the log if the process has ended unexpectedly."""
        if self._process is not None and (code := self._process.poll()) is not None:
            msg = f"the server on port {self.port} ended with code {code}\n{self.log_tail()}"
            raise ServerError(msg)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """Stop the server with SIGTERM, so that it saves its data."""
        if self.running:
            self.resume()
            self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server, as a crash would."""
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
        """Suspend the process: connections stay open without replies."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused server."""
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
        """Return the end of the server's log."""
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
        local_executable()  # fails before ports are leased
        ports = [lease_port() for _ in range(PORTS_NEEDED[kind])]
        self.kind = kind
        self.processes = [ServerProcess(plan=plan) for plan in make_plans(ports)]

    def is_ready(self) -> bool:
        """Return whether the whole topology can be used."""
        raise NotImplementedError

    @property
    def topology(self) -> Topology:
        """The topology as it is now."""
        raise NotImplementedError

    def node_at(self, address: Address | int) -> ServerProcess:
        """Return the process that serves an address or a port."""
        port = address if isinstance(address, int) else int(address[1])
        return next(process for process in self.processes if process.port == port)

    def start(self) -> None:
        """Start all processes and wait until the topology can be used."""
        for process in self.processes:
            process.launch()
        self.wait_ready()

    def wait_ready(self, timeout: float = TIMEOUT) -> None:
        """Wait until the topology can be used; if it can't, raise an error with the logs."""
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
