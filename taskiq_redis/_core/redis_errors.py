"""What redis-py's errors mean to us: try again, or tell the user."""

import logging
import random
import re
import time
from collections.abc import Sequence
from ssl import SSLCertVerificationError, SSLError
from traceback import walk_tb

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    InvalidResponse,
    MaxConnectionsError,
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
    InvalidOptionError,
    ServerUnavailableError,
    TaskIQRedisError,
    WrongKeyTypeError,
)

#: All that a redis-py call may raise because of the server, the network, or what it was given.
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, UnicodeError)

#: s; pause before the first new try, doubled with each further one, up to the second value
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

#: what a sentinel connection says, in place of redis-py's description of all its clients
NO_MASTER = "no sentinel tells where it is"


class UnsentError(RedisConnectionError):
    """A connection was closed before a command was written."""


#: The command wasn't run, and may be soon: LOADING, READONLY, CLUSTERDOWN, a full pool, ...
_NOT_NOW = (
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    ReadOnlyError,
    SlotNotCoveredError,
    TryAgainError,
    UnsentError,
)
#: the same, where redis-py has no class for it
_NOT_NOW_CODES = frozenset({"BUSY", "MISCONF", "NOREPLICAS"})
#: what a pool says that is used up; not every redis-py has a class for it either
_POOL_IS_USED_UP = frozenset({"No connection available.", "Too many connections"})
_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_DENIED = (AuthenticationError, AuthorizationError)

#: most characters of a name that a message quotes
_SHOWN = 200
#: most names that a message lists
_LISTED = 4


def was_not_executed(error: BaseException) -> bool:
    """Tell whether the command surely wasn't run, but may be soon."""
    return (
        isinstance(error, _NOT_NOW)
        or error_code(error) in _NOT_NOW_CODES
        or str(error) in _POOL_IS_USED_UP
    )


def is_transient(error: BaseException) -> bool:
    """Tell whether the same command may succeed a little later."""
    error = _behind(error)
    lost = isinstance(error, _LOST) and not isinstance(error, _DENIED)
    return was_not_executed(error) or (
        lost and not isinstance(_cause(error), SSLCertVerificationError)
    )


def is_about_the_user(error: BaseException | None) -> bool:
    """Tell whether the server lets this user do nothing at all.

    Who hasn't given a password may send short commands only, and is cut off at a longer one.
    """
    return isinstance(error, _DENIED) or "unauthenticated" in str(error)


def is_about_the_key(refusal: CommandRefusedError) -> bool:
    """Tell whether any other command that writes the key would have been refused as well."""
    return isinstance(refusal, WrongKeyTypeError) or isinstance(refusal.__cause__, OutOfMemoryError)


def error_code(error: BaseException) -> str:
    """Return the first word of an error reply, such as NOGROUP; it is part of the protocol."""
    return str(error).partition(" ")[0]


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or error.__context__


def _behind(error: BaseException) -> BaseException:
    """Return why a cluster's slots aren't known, where an error says only that they aren't."""
    cause = _cause(error)
    if cause is None or isinstance(error, _NOT_NOW) or not isinstance(error, RedisClusterException):
        return error
    return _behind(cause)


def strip_tracebacks(error: BaseException) -> BaseException:
    """Forget where in redis-py an error came up: a log would show little else."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = _cause(cause)
    return error


def translate(error: BaseException, server: str, *keys: str) -> TaskIQRedisError:
    """Say what a redis-py error means, on which server, and what to do about it.

    Args:
        error: what redis-py raised.
        server: the address, without a password.
        keys: what the command was about, as far as that is known.
    """
    if isinstance(error, TaskIQRedisError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return InvalidOptionError(
            option="decode_responses",
            problem=f"what {location(server, *keys)} sent is no text",
            advice="Leave this connection option out, or use a serializer that writes text.",
        )
    transient, error = is_transient(error), _behind(error)
    advice = _advice(error, keys)
    if transient:
        more = {"problem": _problem(error), "advice": advice}
        return ServerUnavailableError(
            server=server,
            reason=_reason(error),
            **{name: text for name, text in more.items() if text},
        )
    refused = WrongKeyTypeError if error_code(error) == "WRONGTYPE" else CommandRefusedError
    return refused(server=location(server, *keys), reason=_reason(error), advice=advice)


def location(server: str, *keys: str) -> str:
    """Name a server, and the keys on it that something is about."""
    names = ", ".join(repr(key[:_SHOWN]) + "..." * (len(key) > _SHOWN) for key in keys[:_LISTED])
    which = "key" if len(keys) == 1 else "one of the keys"
    return f"{server}, {which} {names}{', ...' * (len(keys) > _LISTED)}," if keys else server


def _reason(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    return f"MOVED {text}" if isinstance(error, MovedError) else text or type(error).__name__


def _problem(error: BaseException) -> str:
    if NO_MASTER in str(error):
        return "was not found"
    return "can't do it now" if was_not_executed(error) else ""


def _advice(error: BaseException, keys: Sequence[str]) -> str:
    told, cause = str(error).lower(), _cause(error)
    found = next(
        advice
        for kinds, text, advice in _ADVICE
        if (isinstance(error, kinds) or isinstance(cause, kinds)) and text in told
    )
    return _missing_right(error, keys) if found == _GIVE_RIGHT else found


def _missing_right(error: BaseException, keys: Sequence[str]) -> str:
    """Name both the command and the keys; the server names one of the two at most."""
    named = re.findall(r"'([^' ]+)' command", str(error))
    command = named[-1] if named else _command_of(error)
    published = "channel" in str(error) or command.lower() in {"publish", "subscribe"}
    names = [f"{'&' if published else '~'}{key[:_SHOWN]}" for key in keys[:_LISTED]]
    rules = [f"+{command.lower().replace(' ', '|')}"] if command else []
    return f"{_GIVE_RIGHT} ({' '.join(['ACL SETUSER <user>', *rules, *names])})."


def _command_of(error: BaseException) -> str:
    """Name the command that was run when redis-py raised an error, or nothing."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    calls = [frame.f_locals for frame in frames if frame.f_code.co_name == "execute_command"]
    return next((str(call["args"][0]) for call in calls if call.get("args")), "")


_GIVE_RIGHT = "Give this user the right to that command and key"
_CHECK_USER = "Check the username and the password, and whether they are given at all."
_RAISE_POOL = "All connections are in use: raise `max_connection_pool_size`, or `max_connections`."
_SEE_LOG = "The server's log may say more."

#: what to do: of the first row whose kind an error or its cause is of, and whose text it has
_ADVICE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, str], ...] = (
    (
        RedisConnectionError,
        NO_MASTER,
        "Check `master_name`, `sentinels` and, where sentinels want a password, `sentinel_kwargs`.",
    ),
    *((RedisConnectionError, text.lower(), _RAISE_POOL) for text in _POOL_IS_USED_UP),
    (MaxConnectionsError, "", _RAISE_POOL),
    (_DENIED, "", _CHECK_USER),
    (ResponseError, "unauthenticated", _CHECK_USER),
    (NoPermissionError, "", _GIVE_RIGHT),
    (ResponseError, "acl failure", _GIVE_RIGHT),
    (
        ResponseError,
        "wrongtype",
        "Another program uses this key: choose another name, or delete the key.",
    ),
    (OutOfMemoryError, "", "Free memory on the server, or raise its maxmemory."),
    (
        ReadOnlyError,
        "",
        "It is a replica: give the address of the master, or use a Sentinel class.",
    ),
    (MovedError, "", "This server is a node of a cluster: use the Cluster class."),
    (
        ResponseError,
        "not allowed in cluster mode",
        "This server is a node of a cluster: use the Cluster class, and database 0.",
    ),
    (
        ResponseError,
        "cluster support disabled",
        "This server is no node of a cluster: use the class without Cluster in its name.",
    ),
    (
        ResponseError,
        "invalid bulk length",
        "A value is longer than the server's proto-max-bulk-len: raise that, or send less.",
    ),
    (ResponseError, "'sentinel'", "This server is no sentinel: check `sentinels`."),
    (ResponseError, "db index", "Give a database that the server has (CONFIG GET databases)."),
    *((ResponseError, code.lower(), _SEE_LOG) for code in _NOT_NOW_CODES),
    (_NOT_NOW, "", _SEE_LOG),
    (
        SSLCertVerificationError,
        "",
        "Check the server's certificate, its host name, and `ssl_ca_certs`.",
    ),
    (SSLError, "", "Check that this port speaks TLS, and the `ssl_` options."),
    (
        FileNotFoundError,
        "",
        "Check the path of the socket, or of the files in the `ssl_` options.",
    ),
    (
        InvalidResponse,
        "",
        "What answers is no Redis, or wants TLS: check the port, and use rediss:// for TLS.",
    ),
    (_LOST, "", ""),
    (
        RedisClusterException,
        "",
        "Check that the URL names a node of a cluster that covers all slots.",
    ),
    (
        ResponseError,
        "",
        "Check that the server is Redis 6.2 or Valkey 7.2, or later, and no sentinel.",
    ),
    (UnicodeError, "", "Give names and ids that are valid text."),
    (BaseException, "", "Check the connection options."),
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
