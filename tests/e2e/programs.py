"""Start real programs, and check how they end."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGTERM, Signals

from tests.waiting import TIMEOUT, wait_until

ROOT = Path(__file__).parent.parent.parent

#: text that a healthy program never logs
COMPLAINTS = (
    "was never retrieved",
    "was destroyed but it is pending",
    "was never awaited",
    "ResourceWarning",
    "Exception ignored",
    "Unhandled exception",
    "Exception Group Traceback",
    "is dead. Scheduling reload",
)
#: from the head of a traceback to the line that names the error
TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ ].*\n|\n)*(.*)$", re.MULTILINE)


class Program:
    """A running program with its children, in a process group of its own.

    Args:
        command: command line.
        environment: variables in addition to those of the test.
        log: file for its output.
        folder: working directory.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path = ROOT
    ) -> None:
        self._log = log
        #: signal that stops it properly
        self.stop_signal = SIGTERM
        #: its exit code after `stop_signal`
        self.proper_end = 0
        #: whether its log is checked for complaints while it ends
        self.ends_in_order = True
        #: parts of complaints and errors that its log may contain
        self.expected = {"as it should"}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONFAULTHANDLER": "1",
                    "PYTHONWARNINGS": "always::ResourceWarning",
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """Return the output so far."""
        return self._log.read_text(errors="replace")

    @property
    def _ended(self) -> bool:
        return self.process.poll() is not None

    def says(self, text: str, count: int = 1) -> None:
        """Wait until its output contains `text` at least `count` times."""

        def said() -> bool:
            ended = self._ended
            found = self.log.count(text) >= count
            assert found or not ended, f"the program ended too soon:\n{self.log}"
            return found

        try:
            wait_until(said)
        except TimeoutError:
            raise AssertionError(f"the program doesn't print {text!r}:\n{self.log}") from None

    def wait_for_pause(self, times: int = 1) -> list[str]:
        """Wait until a script has paused `times` times, and return the words of its last pause."""
        wait_until(lambda: self._ended or len(self._pauses) >= times, what=self.log)
        assert len(self._pauses) >= times, self.log
        return self._pauses[-1].split()

    @property
    def _pauses(self) -> list[str]:
        return re.findall("^pause:(.*)\n", self.log, re.MULTILINE)

    def resume(self) -> None:
        """Continue a script that pauses."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def send_signal(self, number: Signals) -> None:
        """Send a signal to the program, but not to its children."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        try:
            return self._wait()
        finally:
            self.kill()

    def _wait(self) -> int:
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            # On this signal, faulthandler prints the tracebacks of all threads.
            self.send_signal(SIGABRT)
            self.process.wait(TIMEOUT)
            raise AssertionError(f"the program doesn't end:\n{self.log}") from None

    def wait_for_exit(self, code: int = 0) -> str:
        """Wait until it has ended with this exit code, and return its log."""
        assert self._wait() == code, self.log
        return self.log

    def signal_and_wait(self, number: Signals, code: int = 0) -> str:
        """Send a signal, wait until it has ended with this exit code, and return its log."""
        self.send_signal(number)
        return self.wait_for_exit(code)

    def stop(self) -> int:
        """Stop it with `stop_signal`, and return its exit code, which should be `proper_end`."""
        if not self.ends_in_order:
            self.check_log()
            self.expected.add("")  # part of every line
        self.send_signal(self.stop_signal)
        return self.wait()

    def kill(self) -> None:
        """Kill it and its children, if they still run."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def check_log(self) -> None:
        """Fail if its log contains an unexpected complaint or error."""
        log = self.log
        complaints = [complaint for complaint in COMPLAINTS if complaint in log]
        for line in (*complaints, *TRACEBACK.findall(log)):
            assert any(expected in line for expected in self.expected), log


def taskiq(*arguments: str, uvloop: bool = True) -> list[str]:
    """Return a command line of `taskiq`."""
    if uvloop:
        return [sys.executable, "-m", "taskiq", *arguments]
    # There is no option for this; pretend that uvloop isn't installed.
    code = "import sys; sys.modules['uvloop'] = None; from taskiq.__main__ import main; main()"
    return [sys.executable, "-c", code, *arguments]
