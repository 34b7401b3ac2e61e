"""What redis-py's errors mean to us: try again, or tell the user."""

import logging
import random
import time

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TimeoutError as RedisTimeoutError,
    TryAgainError,
)

from taskiq_redis.exceptions import (
    CommandRefusedError,
    ServerUnavailableError,
    TaskIQRedisError,
    WrongKeyTypeError,
)

#: All that a redis-py call may raise because of the server or the network.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError)

#: s; pause before the first new try, doubled with each further one, up to the second value
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

#: The server answered that it did nothing, and may do it soon: LOADING, READONLY, CLUSTERDOWN, ...
_NOT_NOW = (BusyLoadingError, ReadOnlyError, ClusterError, SlotNotCoveredError, TryAgainError)
#: the same, where redis-py has no class for it
_NOT_NOW_CODES = frozenset({"BUSY", "MISCONF", "NOREPLICAS"})
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_DENIED = (AuthenticationError, AuthorizationError)


def did_nothing(error: BaseException) -> bool:
    """Tell whether the server itself said that it didn't run the command, but may run it soon."""
    return isinstance(error, _NOT_NOW) or error_code(error) in _NOT_NOW_CODES


def is_transient(error: BaseException) -> bool:
    """Tell whether the same command may succeed a little later."""
    if isinstance(error, RedisClusterException) and not isinstance(error, _NOT_NOW):
        # No node of the cluster could be asked for the slots. The cause says why.
        return isinstance(error.__cause__, _LOST) and is_transient(error.__cause__)
    lost = isinstance(error, _LOST) and not isinstance(error, _DENIED)
    return lost or did_nothing(error)


def error_code(error: BaseException) -> str:
    """Return the first word of an error reply, such as NOGROUP; it is part of the protocol."""
    return str(error).partition(" ")[0]


def translate(error: BaseException, server: str, key: str | None = None) -> TaskIQRedisError:
    """Say what a redis-py error means, on which server, and what to do about it.

    Args:
        error: what redis-py raised.
        server: the address, without a password.
        key: what the command was about, if it was about one key.
    """
    if isinstance(error, TaskIQRedisError):
        return error
    if is_transient(error):
        return ServerUnavailableError(server=server, reason=_reason(error))
    refused = WrongKeyTypeError if error_code(error) == "WRONGTYPE" else CommandRefusedError
    place = server if key is None else f"{server}, key {key!r},"
    return refused(server=place, reason=_reason(error), advice=_advice(error))


def _reason(error: BaseException) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _advice(error: BaseException) -> str:
    if error_code(error) == "WRONGTYPE":
        return "Another program uses this key: choose another name, or delete the key."
    return next(advice for kinds, advice in _ADVICE if isinstance(error, kinds))


_ADVICE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
    (_DENIED, "Check the username and the password."),
    (NoPermissionError, "Give this user the right to that command and key (ACL SETUSER)."),
    (OutOfMemoryError, "Free memory on the server, or raise its maxmemory."),
    (MovedError, "This server is a node of a cluster: use the Cluster class."),
    (RedisClusterException, "Check that the URL names a node of a cluster that covers all slots."),
    (ResponseError, "Check that the server is Redis 6.2 or Valkey 7.2, or later."),
    (BaseException, "Check the connection options."),
)


def backoff(attempt: int) -> float:
    """Return the pause in seconds before try number `attempt` + 1, jittered."""
    pause: float = min(FIRST_PAUSE * 2 ** min(attempt, 16), LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1)  # noqa: S311 - jitter is no secret


class Outage:
    """Counts the errors of one listener, and logs when they begin and when they end.

    Args:
        logger: where to.
        what: what the listener does, such as ``"Listening to taskiq"``.
    """

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._errors = 0
        self._since = 0.0

    def failed(self, error: TaskIQRedisError) -> float:
        """Take note of an error, and return how many seconds to wait before the next try."""
        if self._errors == 0:
            self._since = time.monotonic()
            self._logger.warning(
                "%s was interrupted, and will be tried again: %s", self._what, error
            )
        self._errors += 1
        return backoff(self._errors - 1)

    def succeeded(self) -> None:
        """Take note of a success."""
        if self._errors:
            lasted = time.monotonic() - self._since
            self._logger.warning("%s goes on after %.1f s.", self._what, lasted)
            self._errors = 0
