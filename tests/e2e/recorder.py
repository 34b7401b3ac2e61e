"""Records of runs: programs append them to a file, and tests read it."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.setting import SETTING


def record(what: str, **details: Any) -> None:
    """Append a line to the records; lines of several processes don't mix."""
    line = json.dumps({"what": what, "at": time.time(), "process": os.getpid(), **details}) + "\n"
    # A single write to a file opened with O_APPEND is atomic.
    descriptor = os.open(SETTING.records, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Records:
    """Reads the records of programs."""

    path: Path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            # A line that is being written may be incomplete, if it crosses a page boundary.
            complete, _, _ = self.path.read_text().rpartition("\n")
            yield from map(json.loads, complete.splitlines())

    def of(self, what: str, **details: Any) -> list[dict[str, Any]]:
        """Return the records named `what` that have these details, in order."""
        wanted = {"what": what, **details}.items()
        return [line for line in self if all(line.get(key) == value for key, value in wanted)]

    def count(self, what: str, **details: Any) -> int:
        """Return the number of records with this name and these details."""
        return len(self.of(what, **details))

    def tally(self, what: str, detail: str) -> Counter[Any]:
        """Return the number of records with this name by the value of a detail."""
        return Counter(line[detail] for line in self.of(what))

    def processes(self, what: str) -> set[int]:
        """Return the IDs of the processes with a record of this name."""
        return {line["process"] for line in self.of(what)}

    def signal_file(self, name: str) -> Path:
        """Return the path of a file that a test creates to release its tasks."""
        return self.path.parent / f"{name}.signal"


RECORDS = Records(Path(SETTING.records))
