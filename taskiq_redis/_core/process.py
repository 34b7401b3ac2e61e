"""The ID of this process, without a system call, and what it registers about itself."""

import os
import platform

from taskiq_redis._core.version import __version__

_ids = [os.getpid()]


def process_id() -> int:
    """Return the ID of this process."""
    return _ids[0]


def describe_process() -> str:
    """Return the ID of this process, the version of this package and the host, with spaces."""
    return f"{process_id()} {__version__} {platform.node()}"


def _update() -> None:
    _ids[0] = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_update)
