"""Shorten taskiq's log lines about messages that it can't parse."""

import logging

from taskiq_redis._core.texts import describe_error

_RECEIVER = "taskiq.receiver.receiver"
#: beginning of the log message of taskiq's receiver, whose arguments are the message and the error
_CANNOT_PARSE = "Cannot parse message"


class _ShortParseErrors(logging.Filter):
    """Replaces a message in the log by its length, and leaves out the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record if it is about such a message; keep all records."""
        if str(record.msg).startswith(_CANNOT_PARSE) and isinstance(record.args, tuple):
            data, error = (*record.args, None, None)[:2]
            size = len(data) if isinstance(data, bytes) else 0
            reason = describe_error(error) if isinstance(error, BaseException) else "unknown"
            record.msg = "A message of %d bytes can't be parsed, so it is not run: %s"
            record.args = (size, reason)
            record.exc_info = record.exc_text = None
        return True


_filter = _ShortParseErrors()


def shorten_parse_errors() -> None:
    """Let taskiq's receiver log a message that it can't parse in one short line.

    It would log all of it, as a repr that may be four times as long.
    """
    logging.getLogger(_RECEIVER).addFilter(_filter)
