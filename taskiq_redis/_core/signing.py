"""Sign what is stored in Redis, so that only processes with the same keys can write it."""

import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from taskiq_redis.exceptions import InvalidOptionError, SignatureError

if TYPE_CHECKING:
    from typing_extensions import Self

#: what a signed value is for
Purpose = Literal["message", "result", "progress", "schedule"]

#: the beginning of a signed value; no value of a serializer of taskiq begins like this. The ID of
#: the key, a colon, the signature and the value follow.
PREFIX = b"taskiq-redis:signed:"
#: bytes; length of a signature
SIGNATURE_LENGTH = 32
#: bytes; minimum length of a key, the same as that of a signature
MIN_KEY_LENGTH = 32

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADER = re.compile(rb"taskiq-redis:signed:([A-Za-z0-9._-]{1,64}):")


class Signer:
    """Signs values with HMAC-SHA256, and verifies their signatures.

    A signature is valid for one purpose and one place: a message in its queue, and a result,
    progress or schedule in its Redis key.

    Args:
        keys: secret keys by their IDs. The first one signs, and all of them verify. A key has at
            least 32 random bytes; an ID has at most 64 letters, digits, dots, underscores and
            hyphens, and is stored with each value.
        accept_unsigned: whether values without a signature are read, too. Default False.
        verify_only: whether values are written without a signature, for the time in which some
            processes have no signer yet; this implies `accept_unsigned`. Default False.

    Raises:
        InvalidOptionError: a key is too short, an ID is invalid, or there is no key.
    """

    __slots__ = ("_accept_unsigned", "_key_id", "_keys", "_verify_only")

    def __init__(
        self,
        keys: Mapping[str, bytes | str],
        *,
        accept_unsigned: bool = False,
        verify_only: bool = False,
    ) -> None:
        self._keys = _checked(keys)
        self._key_id = next(iter(self._keys))
        self._accept_unsigned = accept_unsigned or verify_only
        self._verify_only = verify_only

    def __repr__(self) -> str:
        key_ids = ", ".join(map(repr, self._keys))
        modes = f"accept_unsigned={self._accept_unsigned} verify_only={self._verify_only}"
        return f"<Signer keys {key_ids} {modes}>"

    def sign(self, purpose: Purpose, name: str, payload: bytes) -> bytes:
        """Return a value with its signature; without one if this signer only verifies.

        Args:
            purpose: what the value is for.
            name: queue of a message, or Redis key of any other value.
            payload: the value.
        """
        if self._verify_only:
            return payload
        signature = self._signature(self._key_id, purpose, name, payload)
        return b"%b%b:%b%b" % (PREFIX, self._key_id.encode(), signature, payload)

    def verify(self, purpose: Purpose, name: str, value: bytes) -> bytes:
        """Return a signed value without its signature.

        Args:
            purpose: what the value is for.
            name: queue of a message, or Redis key of any other value.
            value: the signed value.

        Raises:
            SignatureError: the value has no signature, or one with an unknown key, was signed for
                another purpose or name, or was changed.
        """
        if not value.startswith(PREFIX):
            if self._accept_unsigned:
                return value
            problem = "it is not signed, and `accept_unsigned` is off"
            raise SignatureError(purpose=purpose, name=name, problem=problem)
        header = _HEADER.match(value)
        if header is None:
            problem = "its signature is malformed"
            raise SignatureError(purpose=purpose, name=name, problem=problem)
        key_id, begin = header[1].decode(), header.end() + SIGNATURE_LENGTH
        if key_id not in self._keys:
            problem = f"it is signed with the key {key_id!r}, which is unknown here"
            raise SignatureError(purpose=purpose, name=name, problem=problem)
        payload = value[begin:]
        signature = self._signature(key_id, purpose, name, payload)
        if not hmac.compare_digest(signature, value[header.end() : begin]):
            problem = (
                "its signature is wrong: it was changed, moved from another place, or signed with "
                f"another key of the ID {key_id!r}"
            )
            raise SignatureError(purpose=purpose, name=name, problem=problem)
        return payload

    def _signature(self, key_id: str, purpose: Purpose, name: str, payload: bytes) -> bytes:
        # Lengths before the parts keep different parts from being the same bytes. The payload is
        # last, so it needs none.
        parts = [PREFIX]
        for part in (purpose, name, key_id):
            encoded = part.encode()
            parts += (len(encoded).to_bytes(8, "big"), encoded)
        return hmac.digest(self._keys[key_id], b"".join((*parts, payload)), "sha256")


def _checked(keys: Mapping[str, bytes | str]) -> dict[str, bytes]:
    """Return a copy of the keys as bytes, or raise `InvalidOptionError`, which never shows them."""
    given: object = keys
    if not isinstance(given, Mapping) or not given:
        raise InvalidOptionError(
            option="keys",
            problem="there is no key",
            advice='Give a secret of at least 32 random bytes by its ID: {"2026-01": secret}.',
        )
    checked: dict[str, bytes] = {}
    key_id: object
    key: object
    for key_id, key in given.items():
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise InvalidOptionError(
                option="keys",
                problem="the ID of a key is too long, or has other characters than allowed",
                advice="Give 1 to 64 letters, digits, dots, underscores or hyphens.",
            )
        encoded = key.encode() if isinstance(key, str) else key
        if not isinstance(encoded, bytes) or len(encoded) < MIN_KEY_LENGTH:
            raise InvalidOptionError(
                option="keys",
                problem=f"the key {key_id!r} is shorter than {MIN_KEY_LENGTH} bytes, or not bytes",
                advice="Make one with `secrets.token_hex(32)`, and keep it out of the code.",
            )
        checked[key_id] = encoded
    return checked


class Signing:
    """Base class of brokers, result backends and schedule sources, which can sign their values."""

    #: None: values are not signed, and signed ones are refused
    _value_signer: Signer | None = None

    def with_signer(self, signer: Signer) -> "Self":
        """Sign the values that this object writes, and verify those that it reads.

        All processes that share a queue, results or schedules need the same keys. taskiq-redis
        1.2.4 can't read signed values. A subclass that reads or writes Redis itself has to call
        `Signer.verify` and `Signer.sign`.

        Args:
            signer: signs and verifies the values.

        Raises:
            InvalidOptionError: it isn't a `Signer`.
        """
        if not isinstance(signer, Signer):
            raise InvalidOptionError(
                option="signer",
                problem=f"it is of type {type(signer).__name__}",
                advice="Give a `taskiq_redis.Signer`.",
            )
        self._value_signer = signer
        return self

    def _sign_value(self, purpose: Purpose, name: str, data: bytes) -> bytes:
        """Return data with its signature, if this object has a signer."""
        signer = self._value_signer
        return data if signer is None else signer.sign(purpose, name, data)

    def _verify_value(self, purpose: Purpose, name: str, data: bytes) -> bytes:
        """Return data without its signature.

        Raises:
            SignatureError: the signature isn't valid, or this object has no signer for it.
        """
        signer = self._value_signer
        if signer is not None:
            return signer.verify(purpose, name, data)
        if data.startswith(PREFIX):
            problem = "it is signed, and there is no signer here: call `with_signer()`"
            raise SignatureError(purpose=purpose, name=name, problem=problem)
        return data
