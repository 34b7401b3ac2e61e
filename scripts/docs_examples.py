"""Run every code block of the documentation, as if a reader copied one after the other.

    python scripts/docs_examples.py                      README.md and docs/*.md
    python scripts/docs_examples.py docs/blocking.md     some pages

Several pages run at once. Each has its own empty folder and server. Its blocks run from top to
bottom:

* ``python`` with the first line ``# folder/name.py`` is saved as that file. With the first line
  ``# folder/name.py, at the end`` it is appended to that file.
* Other ``python`` blocks of a page run in one session.
* ``sh`` blocks of a page run in one shell. A worker, scheduler or web server needs its own block.
  It runs until the page ends, and must exit cleanly.
* ``text`` directly after a block is its expected output; ``...`` matches anything.
* A comment ``<!-- not run: reason -->`` before a block excludes it.

Other blocks, and code inside a line, are ignored. The addresses ``localhost:6379``,
``localhost:7000`` (a cluster) and ``localhost:26379`` (a sentinel) are replaced by those of real
servers, and all other ports of localhost by free ones.
"""

import argparse
import doctest
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers import (  # noqa: E402 - the servers of the tests
    LocalCluster,
    LocalSentinel,
    ServerProcess,
    lease_port,
    release_port,
)
from tests.waiting import wait_until  # noqa: E402

#: s; limit for one block, and for the start and the end of a program
TIMEOUT = 60
#: pages that run at the same time: their programs start, wait and stop
AT_ONCE = 4

#: programs that run until the page ends, and their output when they are ready
PROGRAMS = {
    "taskiq worker": "Listening started",
    "taskiq scheduler": "Startup completed",
    "gunicorn": "Listening at",
    "manage.py runserver": "Quit the server",
    "flask": "Running on",
}

FENCE = re.compile(r"^```(\w*) *$")
SKIP = re.compile(r"^<!-- not run: .+ -->$")
FILE = re.compile(r"^# ([\w./-]+\.\w+)(, at the end)?$")
PORT = re.compile(r"(localhost:|localhost\", |--port |runserver )(\d+)")

#: printed by a session after each block
END = "--- the end of a block ---"
#: Python program that executes blocks with the line numbers of the page
PYTHON_SESSION = f"""
import json, sys
names = {{"__name__": "__main__"}}
for line in sys.stdin:
    page, number, code = json.loads(line)
    exec(compile("\\n" * number + code, page, "exec"), names)
    print({END!r}, flush=True)
"""


class Failure(Exception):  # noqa: N818
    """A block failed; the text says how."""


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        kind: the word after the fence.
        text: its contents.
        line: line number of the fence.
        skipped: whether it must not run.
        follows: whether it directly follows another block.
    """

    kind: str
    text: str
    line: int
    skipped: bool
    follows: bool


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    lines = text.splitlines()
    number, before = 0, ""
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence:
            end = lines.index("```", number + 1)
            body = "\n".join(lines[number + 1 : end]) + "\n"
            yield Block(fence[1], body, number + 1, bool(SKIP.match(before)), before == "```")
            number = end
        before = lines[number] or before
        number += 1


class Session:
    """A process that runs blocks one after another.

    Args:
        command: command line.
        folder: working directory.
        environment: environment variables.
    """

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, text: str) -> str:
        """Run a block, and return its output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(TIMEOUT, self.kill)
        timer.start()
        self._process.stdin.write(text)
        self._process.stdin.flush()
        output = ""
        for line in self._process.stdout:
            if line.rstrip("\n").endswith(END):
                timer.cancel()
                return output + line.removesuffix(f"{END}\n")
            output += line
        reason = "it failed" if timer.is_alive() else f"it took longer than {TIMEOUT} s"
        timer.cancel()
        raise Failure(f"{reason}:\n{output}")

    def kill(self) -> None:
        """Kill it and its children."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wait until it exits."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._process.stdout.close()


class Program:
    """A program that runs until the page ends.

    Args:
        command: shell command.
        folder: working directory.
        environment: environment variables.
        log: file for its output.
    """

    def __init__(self, command: str, folder: Path, environment: dict[str, str], log: Path) -> None:
        self.command = command.strip()
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", f"exec {self.command}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self, word: str) -> None:
        """Wait until its output contains a word."""

        def ready() -> bool:
            self.check()
            output = self._log.read_text()
            if "Traceback" in output:
                raise Failure(f"{self.command!r} fails")
            return word in output

        wait_until(ready, timeout=TIMEOUT, what=f"{word!r} of {self.command!r}")

    def check(self) -> None:
        """Fail if it has exited."""
        if self._process.poll() is not None:
            raise Failure(f"{self.command!r} ended with {self._process.returncode}")

    def log(self) -> str:
        """Return the end of its output."""
        return f"\n--- {self.command} ---\n{self._log.read_text()[-3000:]}"

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and fail unless it exits cleanly."""
        self.check()
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.command!r} doesn't exit") from None
        if code or "Traceback" in self._log.read_text():
            raise Failure(f"{self.command!r} ended with {code}, or logged a traceback")

    def kill(self) -> None:
        """Kill it and its children if it still runs."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Addresses:
    """Replace the addresses of a page with those of servers, which are started on first use."""

    def __init__(self) -> None:
        self._servers = ExitStack()
        self._ports: dict[str, int] = {}

    def replace(self, text: str) -> str:
        """Replace the ports in a block."""
        return PORT.sub(lambda match: f"{match[1]}{self._port(match[2])}", text)

    def _port(self, port: str) -> int:
        if port not in self._ports:
            self._ports[port] = self._start(port)
        return self._ports[port]

    def _start(self, port: str) -> int:
        if port == "6379":
            return self._servers.enter_context(ServerProcess()).port
        if port == "7000":
            return self._servers.enter_context(LocalCluster()).processes[0].port
        if port == "26379":
            return self._servers.enter_context(LocalSentinel()).sentinels[0].port
        leased = lease_port()
        self._servers.callback(release_port, leased)
        return leased

    def close(self) -> None:
        """Stop the servers."""
        self._servers.close()


class Page:
    """Run the blocks of one page.

    Args:
        path: path of the page.
        folder: folder for its files.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder / "page"
        self._logs = folder
        self._addresses = Addresses()
        self._sessions: dict[str, Session] = {}
        self._programs: list[Program] = []
        #: output of the last block, or None if it didn't run
        self._output: str | None = None
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self) -> int:
        """Run all blocks, and return how many ran. Failures name the line of the block."""
        self._folder.mkdir()
        count = 0
        try:
            for block in blocks_of(self._path.read_text()):
                self._run_at(block.line, self._run_block, block)
                count += block.kind in {"python", "sh"} and not block.skipped
            for program in self._programs:
                self._run_at(None, program.stop)
        finally:
            self._end()
        return count

    def _run_at(self, line: int | None, call: Any, *arguments: Any) -> None:
        """Call a function, and add the line and the logs to its error."""
        where = f"{self._path}:{line}" if line else str(self._path)
        try:
            call(*arguments)
        except (Failure, TimeoutError) as error:
            logs = "".join(program.log() for program in self._programs)
            raise Failure(f"{where}: {error}{logs}") from None

    def _end(self) -> None:
        for program in self._programs:
            program.kill()
        for session in self._sessions.values():
            session.close()
        self._addresses.close()

    def _run_block(self, block: Block) -> None:
        if block.kind in {"bash", "console", "shell", "py", "pycon"}:
            raise Failure(f"write `sh` or `python` instead of `{block.kind}`")
        output, self._output = self._output if block.follows else None, None
        if block.skipped:
            return
        text = self._addresses.replace(block.text)
        if block.kind == "python":
            self._python(text, block.line)
        elif block.kind == "sh":
            self._sh(text)
        elif block.kind == "text" and output is not None:
            self._compare(text, output)

    def _python(self, text: str, line: int) -> None:
        first, _, rest = text.partition("\n")
        named = FILE.match(first)
        if named is None:
            call = json.dumps([str(self._path), line, text])
            self._output = self._session("python").run(f"{call}\n")
            return
        path = self._folder / named[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if named[2] else "w") as file:
            file.write(rest if named[2] else text)

    def _sh(self, text: str) -> None:
        for command, word in PROGRAMS.items():
            if command in text.partition("\n")[0]:
                self._start(text, word)
                return
        # Commands of the block must not read later blocks from the shell's input.
        self._output = self._session("sh").run(f"{{ {text}\n}} </dev/null\necho '{END}'\n")

    def _start(self, command: str, word: str) -> None:
        for program in self._programs:
            if program.command == command.strip():
                # Restart it, so that it loads changed files.
                program.stop()
                self._programs.remove(program)
                break
        log = self._logs / f"{time.monotonic_ns()}.log"
        self._programs.append(Program(command, self._folder, self._environment, log))
        self._programs[-1].wait_ready(word)

    def _session(self, kind: str) -> Session:
        if kind not in self._sessions:
            commands = {"python": [sys.executable, "-c", PYTHON_SESSION], "sh": ["sh", "-e"]}
            self._sessions[kind] = Session(commands[kind], self._folder, self._environment)
        return self._sessions[kind]

    def _compare(self, wanted: str, output: str) -> None:
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if not doctest.OutputChecker().check_output(wanted, output, flags):
            raise Failure(f"the block before printed this instead:\n{output}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the code of the documentation.")
    parser.add_argument("pages", nargs="*", type=Path)
    pages = parser.parse_args().pages or [Path("README.md"), *sorted(Path("docs").glob("*.md"))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return 0 if all(list(pool.map(run_page, pages))) else 1


def run_page(path: Path) -> bool:
    """Run a page, print how that ended, and return whether it succeeded."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="docs-examples-") as folder:
        try:
            count = Page(path, Path(folder)).run()
        except Failure as failure:
            print(failure, file=sys.stderr)
            return False
    print(f"{path}: {count} blocks, {time.monotonic() - begin:.1f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
