"""Classify redis-py's errors, and translate them to errors with advice for the user."""

import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import PurePath
from ssl import SSLCertVerificationError, SSLError
from traceback import walk_tb

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError as RedisConnectionError,
    InvalidResponse,
    MasterDownError,
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

from taskiq_redis._core.keys import slot_advice
from taskiq_redis._core.redaction import redact
from taskiq_redis.exceptions import (
    CommandRefusedError,
    InvalidOptionError,
    ServerUnavailableError,
    TaskIQRedisError,
    WrongKeyTypeError,
)

#: what a redis-py call may raise because of the server, the network, or its arguments
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, UnicodeError)

#: returns something about an error
Predicate = Callable[[BaseException], bool]

#: s; pause before the first retry, doubled with each further one up to the maximum
MIN_BACKOFF, MAX_BACKOFF = 0.05, 1.0

#: text of the error if no sentinel knows a master; that of redis-py has the `repr` of each client
NO_MASTER = "no sentinel returned its address"
#: text of redis-py's error after a command got TRYAGAIN, or was redirected, too many times
TTL_EXHAUSTED = "TTL exhausted"


class UnsentError(RedisConnectionError):
    """A connection was closed before a command was sent."""


#: errors after which a command was not executed, and may succeed soon: LOADING, READONLY, ...
_NOT_EXECUTED = (
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    ReadOnlyError,
    SlotNotCoveredError,
    TryAgainError,
    UnsentError,
)
#: error codes with the same meaning, for which redis-py has no class
_NOT_EXECUTED_CODES = frozenset({"BUSY", "MISCONF", "NOREPLICAS", "UNKILLABLE"})
#: errors of a server that isn't, or not yet, the primary
_WRONG_SERVER = (BusyLoadingError, MasterDownError, ReadOnlyError)
#: texts of the error of an exhausted pool, for which old versions of redis-py have no class
_POOL_EXHAUSTED = frozenset({"No connection available.", "Too many connections"})
_CONNECTION_LOST = (RedisConnectionError, RedisTimeoutError, OSError)
_AUTH_ERRORS = (AuthenticationError, AuthorizationError)

#: an error inside a script, as Redis before 7 reports it, and its code
_SCRIPT_ERROR = re.compile(r"Error running script .*@user_script: ?\d+: -?([A-Z]+) (.*)", re.DOTALL)
#: redis-py's classes for errors with a code, which it leaves out of their texts
_CLASSES: dict[str, type[RedisError]] = {
    "CLUSTERDOWN": ClusterDownError,
    "LOADING": BusyLoadingError,
    "MASTERDOWN": MasterDownError,
    "NOPERM": NoPermissionError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "TRYAGAIN": TryAgainError,
}

#: functions of redis-py that are called before a command is sent
_CONNECTING = frozenset({"acquire_connection", "connect", "initialize", "make_connection"})
#: text of the error for an exception that redis-py doesn't document
_RAISED_BY = "raised by"

#: maximum number of characters of a key in an error message
_MAX_KEY_LENGTH = 200
#: maximum number of keys in an error message
_MAX_KEYS = 4


def was_not_executed(error: BaseException) -> bool:
    """Return whether the command was certainly not executed, and may succeed soon."""
    error = _error_in_script(error)
    return (
        isinstance(error, _NOT_EXECUTED)
        or isinstance(_underlying_error(error), UnsentError)
        or error_code(error) in _NOT_EXECUTED_CODES
        or str(error) in _POOL_EXHAUSTED
    )


def is_transient(error: BaseException) -> bool:
    """Return whether a retry of the command may succeed."""
    error = _underlying_error(error)
    is_lost = isinstance(error, _CONNECTION_LOST) and not isinstance(error, _AUTH_ERRORS)
    return was_not_executed(error) or (
        is_lost and not isinstance(_cause_of(error), SSLCertVerificationError)
    )


def is_connection_lost(error: BaseException) -> bool:
    """Return whether an open connection was closed, or has no reply in time."""
    lost = _underlying_error(error)
    return (
        isinstance(lost, _CONNECTION_LOST)
        and not isinstance(lost, (*_AUTH_ERRORS, *_NOT_EXECUTED))
        and not _is_connecting(lost)
    )


def leads_to_wrong_server(error: BaseException) -> bool:
    """Return whether a new connection may lead to a server that executes the command.

    Behind an endpoint that follows the primary, a connection to the old one stays open.
    """
    error = _error_in_script(error)
    return isinstance(error, _WRONG_SERVER) or error_code(error) in _NOT_EXECUTED_CODES


def keys_are_moving(error: BaseException | None) -> bool:
    """Return whether the slot of the keys is moving, so that commands with one key may succeed."""
    error = error and _error_in_script(error)
    return isinstance(error, TryAgainError) or (
        isinstance(error, ClusterError) and TTL_EXHAUSTED in str(error)
    )


def is_auth_error(error: BaseException | None) -> bool:
    """Return whether the server refuses this user or password, and so every command."""
    # "unauthenticated" is in the reply to a long command without a password.
    return isinstance(error, _AUTH_ERRORS) or "unauthenticated" in str(error)


def is_passing(error: BaseException) -> bool:
    """Return whether every command may be refused for a short time: full memory, disabled user."""
    error = _underlying_error(error)
    return is_transient(error) or is_auth_error(error) or isinstance(error, OutOfMemoryError)


def is_passing_for_plain(error: BaseException) -> bool:
    """Return whether a plain command may be refused for a short time, also by an ACL.

    A script that an ACL forbids is replaced by a plain command at once.
    """
    return is_passing(error) or isinstance(_underlying_error(error), NoPermissionError)


def refuses_any_write(refusal: CommandRefusedError) -> bool:
    """Return whether the server would refuse any command that writes the key."""
    cause = refusal.__cause__
    return isinstance(refusal, WrongKeyTypeError) or (
        cause is not None and isinstance(_error_in_script(cause), OutOfMemoryError)
    )


def error_code(error: BaseException) -> str:
    """Return the error code, such as NOGROUP: the first word of an error reply."""
    return str(_error_in_script(error)).partition(" ")[0]


def _error_in_script(error: BaseException) -> BaseException:
    """Return the error that ended a script as that of a command, as Redis 7 reports it itself."""
    match = _SCRIPT_ERROR.match(str(error)) if isinstance(error, ResponseError) else None
    if match is None:
        return error
    code, text = match.groups()
    return _CLASSES[code](text) if code in _CLASSES else ResponseError(f"{code} {text}")


def is_from_redis_py(error: BaseException) -> bool:
    """Return whether redis-py raised it, or code of the user that redis-py calls to connect.

    Other exceptions are raised in the middle of a command: by a signal handler, for instance.
    """
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    module = str(frames[-1].f_globals.get("__name__")) if frames else ""
    return module.partition(".")[0] == "redis" or _is_connecting(error)


def _is_connecting(error: BaseException) -> bool:
    names = {frame.f_code.co_name for frame, _ in walk_tb(error.__traceback__)}
    return not _CONNECTING.isdisjoint(names)


def as_outage(error: BaseException, *, unsent: bool = False) -> RedisConnectionError:
    """Return an exception that redis-py doesn't document as a lost connection.

    A credential provider, `address_remap` and a connection class of the user may raise anything.

    Args:
        error: the exception.
        unsent: whether it was certainly raised before a command was sent.
    """
    where = ""
    for frame, line in walk_tb(error.__traceback__):
        code = frame.f_code
        where = f" ({_RAISED_BY} {code.co_name} in {PurePath(code.co_filename).name}, line {line})"
    kind = UnsentError if unsent or _is_connecting(error) else RedisConnectionError
    outage = kind(f"{type(error).__name__}: {redact(error)}{where}")
    outage.__cause__ = error
    return outage


def _cause_of(error: BaseException) -> BaseException | None:
    return error.__cause__ or error.__context__


def _underlying_error(error: BaseException) -> BaseException:
    """Return the cause, if a cluster client couldn't load its slots, or the error in a script."""
    error, cause = _error_in_script(error), _cause_of(error)
    if (
        cause is None
        or isinstance(error, _NOT_EXECUTED)
        or not isinstance(error, RedisClusterException)
    ):
        return error
    if not isinstance(cause, REDIS_ERRORS) and is_from_redis_py(cause):
        return as_outage(cause)
    return _underlying_error(cause)


def strip_tracebacks(error: BaseException) -> BaseException:
    """Remove the tracebacks of an error and its causes, which would fill a log with redis-py."""
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = _cause_of(cause)
    return error


def translate(error: BaseException, server: str, *keys: str) -> TaskIQRedisError:
    """Return an error of this package for one of redis-py, with the server and advice.

    Args:
        error: exception from redis-py.
        server: description of the server, without a password.
        keys: Redis keys of the command, for error messages.
    """
    if isinstance(error, TaskIQRedisError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return InvalidOptionError(
            option="decode_responses",
            problem=f"a reply of {describe_target(server, *keys)} is not valid text",
            advice="Leave this connection option out, or use a serializer that writes text.",
        )
    retry, error = is_transient(redact(error)), _underlying_error(error)
    advice = _advice(error, keys)
    if retry:
        # Without these, the error has its default texts.
        texts = {"problem": _unavailable_problem(error), "advice": advice}
        return ServerUnavailableError(
            server=server,
            reason=_reason(error),
            **{name: text for name, text in texts.items() if text},
        )
    kind = WrongKeyTypeError if error_code(error) == "WRONGTYPE" else CommandRefusedError
    return kind(server=describe_target(server, *keys), reason=_reason(error), advice=advice)


def describe_target(server: str, *keys: str) -> str:
    """Return the server and the keys of a command, for error messages."""
    if not keys:
        return server
    names = ", ".join(
        repr(key[:_MAX_KEY_LENGTH]) + "..." * (len(key) > _MAX_KEY_LENGTH)
        for key in keys[:_MAX_KEYS]
    )
    label = "key" if len(keys) == 1 else "one of the keys"
    return f"{server}, {label} {names}{', ...' * (len(keys) > _MAX_KEYS)},"


def _reason(error: BaseException) -> str:
    text = str(error).strip().rstrip(".")
    return f"MOVED {text}" if isinstance(error, MovedError) else text or type(error).__name__


def _unavailable_problem(error: BaseException) -> str:
    if NO_MASTER in str(error):
        return "was not found"
    return "can't execute it now" if was_not_executed(error) else ""


def _advice(error: BaseException, keys: Sequence[str]) -> str:
    reply, cause = str(error).lower(), _cause_of(error)
    advice = next(
        advice
        for kinds, text, advice in _ADVICE
        if (isinstance(error, kinds) or isinstance(cause, kinds)) and text in reply
    )
    if advice == _SHARE_SLOT:
        return slot_advice(keys)
    return _acl_advice(error, keys) if advice == _GRANT else advice


def _acl_advice(error: BaseException, keys: Sequence[str]) -> str:
    """Return advice with the ACL rules for both command and keys; the server names only one."""
    commands = re.findall(r"'([^' ]+)' command", str(error))
    command = commands[-1] if commands else _command_of(error)
    is_channel = "channel" in str(error) or command.lower() in {"publish", "subscribe"}
    patterns = [f"{'&' if is_channel else '~'}{key[:_MAX_KEY_LENGTH]}" for key in keys[:_MAX_KEYS]]
    rules = [f"+{command.lower().replace(' ', '|')}"] if command else []
    return f"{_GRANT} ({' '.join(['ACL SETUSER <user>', *rules, *patterns])})."


def _command_of(error: BaseException) -> str:
    """Return the command that redis-py was executing, or an empty string."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    calls = [frame.f_locals for frame in frames if frame.f_code.co_name == "execute_command"]
    return next((str(call["args"][0]) for call in calls if call.get("args")), "")


_GRANT = "Grant this user the command and the key"
_SHARE_SLOT = "Keys of this command have to share a hash slot."
_CHECK_USER = "Check the username and the password, and that both are passed."
_RAISE_POOL = "All connections are in use: raise `max_connection_pool_size` or `max_connections`."
_NO_HELLO = "HELLO is disabled on this server: pass `protocol=2`, which needs only AUTH."
_NO_AUTH = "AUTH is disabled on this server: enable it, or leave out username and password."
_SEE_LOG = "See the server's log."
_FINISH_MOVE = "A slot is moving: finish that, or end it (CLUSTER SETSLOT <slot> STABLE)."

_NO_SENTINEL = "This server is not a sentinel: check `sentinels`."
_CHECK_SENTINELS = (
    "Check `master_name` and `sentinels`. Only `sentinel_kwargs` has the password and the TLS "
    "options for the sentinels, such as {'ssl': True}."
)
_CHECK_HOOKS = "Check the credential provider, and other connection options that run your code."

#: classes of an error or its cause, text in the error, and advice; the first match counts
_ADVICE: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str, str], ...] = (
    (
        RedisConnectionError,
        NO_MASTER,
        _CHECK_SENTINELS,
    ),
    (RedisConnectionError, _RAISED_BY, _CHECK_HOOKS),
    *((RedisConnectionError, text.lower(), _RAISE_POOL) for text in _POOL_EXHAUSTED),
    (MaxConnectionsError, "", _RAISE_POOL),
    (_AUTH_ERRORS, "", _CHECK_USER),
    (ResponseError, "unauthenticated", _CHECK_USER),
    (NoPermissionError, "", _GRANT),
    (ResponseError, "acl failure", _GRANT),
    (
        ResponseError,
        "wrongtype",
        "The key is used for something else: choose another name, or delete the key.",
    ),
    (
        ResponseError,
        "exhausted the last possible id",
        (
            "An entry with the largest ID was added, so the stream takes no more: delete the key "
            "when all its entries are processed (DEL), or choose another name."
        ),
    ),
    (OutOfMemoryError, "", "Free memory on the server, or raise its `maxmemory`."),
    (
        ReadOnlyError,
        "",
        "This server is a replica: give the address of the master, or use a Sentinel class.",
    ),
    (ResponseError, "hash to the same slot", _SHARE_SLOT),
    (ResponseError, "crossslot", _SHARE_SLOT),
    (MovedError, "", "This server is a cluster node: use the Cluster class."),
    (
        ResponseError,
        "not allowed in cluster mode",
        "This server is a cluster node: use the Cluster class, and database 0.",
    ),
    (
        ResponseError,
        "cluster support disabled",
        "This server is not a cluster node: use the class without Cluster in its name.",
    ),
    (
        ResponseError,
        "invalid bulk length",
        "A value is longer than the server's `proto-max-bulk-len`: raise it, or send less.",
    ),
    *((ResponseError, f"{quote}hello{quote}", _NO_HELLO) for quote in "'`"),
    *((ResponseError, f"{quote}auth{quote}", _NO_AUTH) for quote in "'`"),
    *((ResponseError, f"{quote}sentinel{quote}", _NO_SENTINEL) for quote in "'`"),
    (ResponseError, "db index", "Give the number of an existing database (CONFIG GET databases)."),
    (TryAgainError, "", _FINISH_MOVE),
    (ClusterError, TTL_EXHAUSTED.lower(), _FINISH_MOVE),
    *((ResponseError, code.lower(), _SEE_LOG) for code in _NOT_EXECUTED_CODES),
    (_NOT_EXECUTED, "", _SEE_LOG),
    (
        SSLCertVerificationError,
        "",
        "Check the server's certificate and host name, and `ssl_ca_certs`.",
    ),
    (SSLError, "", "Check that this port speaks TLS, and the `ssl_` options."),
    (
        FileNotFoundError,
        "",
        "Check the path of the socket, or the files in the `ssl_` options.",
    ),
    (
        InvalidResponse,
        "",
        "The server is not Redis, or requires TLS: check the port, or use rediss:// for TLS.",
    ),
    (_CONNECTION_LOST, "", ""),
    (
        RedisClusterException,
        "",
        "Check that the URL is that of a cluster node, and that the cluster covers all slots.",
    ),
    (
        ResponseError,
        "",
        "Check that the server is Redis 6.2, Valkey 7.2 or later, and not a sentinel.",
    ),
    (UnicodeError, "", "Give names and IDs that are valid text."),
    (BaseException, "", "Check the connection options."),
)


def backoff(attempt: int) -> float:
    """Return the pause in seconds, with jitter, after `attempt` + 1 failures."""
    pause: float = min(MIN_BACKOFF * 2 ** min(attempt, 16), MAX_BACKOFF)
    return pause * random.uniform(0.5, 1)  # noqa: S311 - not for cryptography


class Outage:
    """Counts consecutive errors of a background activity, and logs the first and the recovery.

    Args:
        logger: logger for the two messages.
        activity: beginning of the messages, such as ``"Listening to taskiq"``.
    """

    def __init__(self, logger: logging.Logger, activity: str) -> None:
        self._logger = logger
        self._activity = activity
        self._errors = 0
        self._since = 0.0

    def record_failure(self, error: TaskIQRedisError) -> float:
        """Record an error, and return the pause in seconds before the retry."""
        if self._errors == 0:
            self._since = time.monotonic()
            self._logger.warning("%s was interrupted and is retried: %s", self._activity, error)
        self._errors += 1
        return backoff(self._errors - 1)

    def record_success(self) -> None:
        """Record a success."""
        if self._errors:
            lasted = time.monotonic() - self._since
            self._logger.warning("%s resumed after %.1f s.", self._activity, lasted)
            self._errors = 0
