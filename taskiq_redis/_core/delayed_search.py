"""Find a task among delayed messages by the bytes of its ID."""

import re
from collections.abc import Sequence
from typing import Any

from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.formatters.proxy_formatter import ProxyFormatter

from taskiq_redis._core.keys import escape_glob

#: limits for the number of delayed messages per command, which blocks the server while it runs
MIN_PAGE, MAX_PAGE = 10, 500
#: bytes; length of the delayed messages of one page, about
PAGE_BYTES = 250_000

#: IDs that no serializer of taskiq escapes
_PLAIN = re.compile(r"[A-Za-z0-9_.:@+=~ -]*")


def writes_plainly(formatter: Any, task_id: str) -> bool:
    """Return whether the bytes of a task's ID are certainly part of its message.

    Args:
        formatter: taskiq's formatter that makes the messages.
        task_id: the ID.
    """
    if not _PLAIN.fullmatch(task_id):
        return False
    if type(formatter) is JSONFormatter:
        return True
    if type(formatter) is not ProxyFormatter:
        return False
    serializer: Any = getattr(formatter.broker, "serializer", None)
    return type(serializer).__module__.startswith("taskiq.serializers.")


def id_pattern(task_id: str) -> str:
    """Return the pattern for ZSCAN MATCH of messages that contain the bytes of an ID."""
    return f"*{escape_glob(task_id)}*"


def page_size(sample: Sequence[bytes]) -> int:
    """Return how many delayed messages to look at per command.

    Args:
        sample: some of them.
    """
    mean = sum(map(len, sample)) // max(1, len(sample))
    return max(MIN_PAGE, min(MAX_PAGE, PAGE_BYTES // max(1, mean)))
