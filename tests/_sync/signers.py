# Generated from tests/_async/signers.py by scripts/unasync.py; edit that.

"""Signers, and what stands for a value that none of them signed."""

from taskiq_redis import Signer
from taskiq_redis._core.signing import PREFIX

OLD, NEW = {"old": b"o" * 32}, {"new": b"n" * 32}
SIGNER = Signer(OLD)
#: signs with another key
STRANGER = Signer(NEW)


def is_signed(value: bytes | None, key_id: str = "old") -> bool:
    """Return whether a value begins like a signed one."""
    return value is not None and value.startswith(PREFIX + key_id.encode() + b":")
