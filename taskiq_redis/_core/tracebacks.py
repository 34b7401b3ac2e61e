"""The traceback of a failed task, as text that is stored with its result."""

import traceback
from types import TracebackType

#: maximum number of characters; the end of a longer traceback is kept
MAX_LENGTH = 20_000
#: packages whose frames call the task
_CALLERS = frozenset({"anyio", "asyncio", "concurrent", "taskiq"})


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception and its causes, without the frames that call the task.

    Args:
        error: the exception that the task raised.
    """
    lines = traceback.format_exception(type(error), error, _own(error.__traceback__))
    text = "".join(lines)
    return text if len(text) <= MAX_LENGTH else f"...\n{text[-MAX_LENGTH:]}"


def _own(frames: TracebackType | None) -> TracebackType | None:
    """Skip the frames before the task; keep all if it was never called."""
    own = frames
    while own is not None and _package(own) in _CALLERS:
        own = own.tb_next
    return own or frames


def _package(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
