"""The ID of this process, without a system call."""

import os

_ids = [os.getpid()]


def process_id() -> int:
    """Return the ID of this process."""
    return _ids[0]


def _update() -> None:
    _ids[0] = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_update)
