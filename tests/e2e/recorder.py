"""What ran, where and how often: written by the programs to a file, and read by the tests."""

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
    # One write of a file that was opened for appending is atomic.
    descriptor = os.open(SETTING.records, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Records:
    """Reads what programs have recorded."""

    path: Path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            # A line that is being written is seen in pieces, if it crosses the end of a page.
            complete, _, _ = self.path.read_text().rpartition("\n")
            yield from map(json.loads, complete.splitlines())

    def of(self, what: str, **details: Any) -> list[dict[str, Any]]:
        """Return the records of something that have these details, in order."""
        wanted = {"what": what, **details}.items()
        return [line for line in self if all(line.get(key) == value for key, value in wanted)]

    def count(self, what: str, **details: Any) -> int:
        """Tell how often something was recorded."""
        return len(self.of(what, **details))

    def tally(self, what: str, detail: str) -> Counter[Any]:
        """Tell how often something was recorded with each value of a detail."""
        return Counter(line[detail] for line in self.of(what))

    def processes(self, what: str) -> set[int]:
        """Return the ids of the processes that recorded something."""
        return {line["process"] for line in self.of(what)}

    def file(self, name: str) -> Path:
        """Name a file beside the records, by which a test lets its tasks go on."""
        return self.path.parent / f"{name}.signal"


RECORDS = Records(Path(SETTING.records))
