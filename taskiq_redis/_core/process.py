"""Which process this is, without asking the system for every command."""

import os

_ids = [os.getpid()]


def process_id() -> int:
    """Return the id of this process."""
    return _ids[0]


def _ask_again() -> None:
    _ids[0] = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ask_again)
