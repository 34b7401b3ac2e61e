"""How long a published message may be: the server closes listeners whose output buffer is full."""

from collections.abc import Mapping

#: bytes; default of the hard limit for pubsub in ``client-output-buffer-limit``
DEFAULT_LIMIT = 32 * 2**20
#: bytes that the server may add to a message in the buffer
_OVERHEAD = 8192


def limit_of(reply: Mapping[str | bytes, str | bytes]) -> int | None:
    """Return the hard limit for pubsub in bytes, or None if there is none.

    Args:
        reply: reply of CONFIG GET client-output-buffer-limit: by class of clients, the hard limit,
            the soft limit and its seconds, as in ``normal 0 0 0 pubsub 33554432 8388608 60``.
    """
    texts = (each.decode() if isinstance(each, bytes) else each for each in reply.values())
    words = " ".join(texts).split()
    limit = int(words[words.index("pubsub") + 1]) if "pubsub" in words else DEFAULT_LIMIT
    return limit or None


def longest_message(limit: int) -> int:
    """Return how long a message may be that fits into an output buffer in any case, in bytes.

    jemalloc, from which most servers get their memory, has four sizes between a power of two and
    the next one, and the rounded size counts.

    Args:
        limit: hard limit of the output buffer in bytes.
    """
    usable = max(0, limit - _OVERHEAD)
    step = 1 << max(0, usable.bit_length() - 3)
    return max(0, usable // step * step - _OVERHEAD)
