"""Shorten taskiq's log lines about messages that it can't parse, and the names in others."""

import logging

from taskiq_redis._core.texts import REASON_WIDTH, describe_error, quote

_RECEIVER = "taskiq.receiver.receiver"
#: beginning of the log message of taskiq's receiver, whose arguments are the message and the error
_CANNOT_PARSE = "Cannot parse message"
#: beginning of the one about a task that it doesn't know, whose argument is the name
_NOT_FOUND = 'task "%s" is not found'
#: maximum number of names, since others determine the names of tasks that are unknown here
MAX_NAMES = 1000


#: names of tasks that were logged as not found
_logged_names: set[object] = set()


def shorten_parse_errors() -> None:
    """Let taskiq's receiver log a message that it can't parse in one short line.

    It would log all of it, as a repr that may be four times as long. Long names and IDs of tasks
    are shortened as well.
    """
    logging.getLogger(_RECEIVER).addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    """Shorten the texts in a record that a sender has chosen; return whether it is logged.

    A task that isn't found is logged once, as its messages come back until a worker knows it.
    """
    if str(record.msg).startswith(_CANNOT_PARSE) and isinstance(record.args, tuple):
        data, error = (*record.args, None, None)[:2]
        size = len(data) if isinstance(data, bytes) else 0
        reason = describe_error(error) if isinstance(error, BaseException) else "unknown"
        record.msg = "A message of %d bytes can't be parsed, so it is not run: %s"
        record.args = (size, reason)
        record.exc_info = record.exc_text = None
    elif isinstance(record.args, tuple):
        # Names and IDs of tasks, which the sender of a message has chosen.
        record.args = tuple(map(_shown, record.args))
        if str(record.msg).startswith(_NOT_FOUND):
            return _is_new(record.args[0])
    return True


def _is_new(name: object) -> bool:
    if name in _logged_names or len(_logged_names) >= MAX_NAMES:
        return False
    _logged_names.add(name)
    return True


def _shown(argument: object) -> object:
    """Return an argument of a log record; a long text, or one of several lines, as a short repr."""
    if type(argument) is not str or (len(argument) <= REASON_WIDTH and argument.isprintable()):
        return argument
    return quote(argument)
