"""Errors of redis-py: which are retried, and how they are translated."""

import logging
import ssl
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as errors

from taskiq_redis._core.redis_errors import (
    MAX_BACKOFF,
    MIN_BACKOFF,
    NO_MASTER,
    REDIS_ERRORS,
    Outage,
    backoff,
    error_code,
    is_transient,
    strip_tracebacks,
    translate,
    was_not_executed,
)
from taskiq_redis.exceptions import (
    CommandRefusedError,
    ResultIsMissingError,
    ServerUnavailableError,
    TaskIQRedisError,
    WrongKeyTypeError,
)

#: not executed, and worth a retry
NOT_EXECUTED = (True, True)
#: maybe executed, and worth a retry
LOST = (False, True)
#: a retry is useless
REFUSED = (False, False)

#: every exception of redis-py: was_not_executed, is_transient
TABLE = {
    "AskError": REFUSED,
    "AuthenticationError": REFUSED,
    "AuthenticationWrongNumberOfArgsError": REFUSED,
    "AuthorizationError": REFUSED,
    "BusyLoadingError": NOT_EXECUTED,
    "ClusterCrossSlotError": REFUSED,
    "ClusterDownError": NOT_EXECUTED,
    "ClusterError": NOT_EXECUTED,
    "ConnectionError": LOST,
    "CrossSlotTransactionError": REFUSED,
    "DataError": REFUSED,
    "ExecAbortError": REFUSED,
    "ExternalAuthProviderError": LOST,
    "InvalidPipelineStack": REFUSED,
    "InvalidResponse": REFUSED,
    "LockError": REFUSED,
    "LockNotOwnedError": REFUSED,
    "MasterDownError": NOT_EXECUTED,
    "MaxConnectionsError": NOT_EXECUTED,
    "ModuleError": REFUSED,
    "MovedError": REFUSED,
    "NoPermissionError": REFUSED,
    "NoScriptError": REFUSED,
    "NoSuchFieldsetError": REFUSED,
    "OutOfMemoryError": REFUSED,
    "PubSubError": REFUSED,
    "ReadOnlyError": NOT_EXECUTED,
    "RedisClusterException": REFUSED,
    "RedisError": REFUSED,
    "ResponseError": REFUSED,
    "SlotNotCoveredError": NOT_EXECUTED,
    "TimeoutError": LOST,
    "TryAgainError": NOT_EXECUTED,
    "WatchError": REFUSED,
}

#: not caused by the server or the network, and so not caught
OTHERS = {"ChildDeadlockedError", "IncorrectPolicyType"}

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


def make(name: str) -> Exception:
    error: Exception = KINDS[name]("1 127.0.0.1:7000")
    return error


def test_table_lists_every_exception_of_redis_py() -> None:
    assert KINDS.keys() - TABLE.keys() - OTHERS == set()


@pytest.mark.parametrize("name", sorted(OTHERS & KINDS.keys()))
def test_other_exceptions_are_not_caught(name: str) -> None:
    assert not issubclass(KINDS[name], REDIS_ERRORS)


@pytest.mark.parametrize("name", sorted(TABLE.keys() & KINDS.keys()))
def test_classification_of_redis_py_errors(name: str) -> None:
    error = make(name)
    assert isinstance(error, REDIS_ERRORS)
    assert (was_not_executed(error), is_transient(error)) == TABLE[name]
    translated = translate(error, "Redis at redis://h")
    kind = ServerUnavailableError if TABLE[name][1] else CommandRefusedError
    assert type(translated) is kind
    assert str(translated).startswith("Redis at redis://h ")
    assert "1 127.0.0.1:7000" in str(translated)


@pytest.mark.parametrize(
    "error",
    [
        OSError("gone"),
        ConnectionResetError(104, "reset"),
        ConnectionRefusedError(111, "refused"),
        BrokenPipeError(32, "broken"),
        TimeoutError("late"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_network_errors_are_retried(error: OSError) -> None:
    assert isinstance(error, REDIS_ERRORS)
    assert is_transient(error)
    assert not was_not_executed(error)
    assert isinstance(translate(error, "Redis"), ServerUnavailableError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x")], ids=repr)
def test_programming_errors_are_not_retried(error: Exception) -> None:
    assert not isinstance(error, REDIS_ERRORS)
    assert not is_transient(error)
    assert not was_not_executed(error)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("cause", "retried"),
    [
        (errors.ConnectionError("refused"), True),
        (errors.TimeoutError("late"), True),
        (errors.BusyLoadingError("loading"), True),
        (ConnectionRefusedError(111, "refused"), True),
        (errors.AuthenticationError("wrong"), False),
        (errors.AuthorizationError("wrong"), False),
        (errors.ResponseError("wrong"), False),
        (errors.RedisClusterException("wrong"), False),
        (ValueError("wrong"), False),
        (None, False),
    ],
    ids=repr,
)
def test_cluster_error_is_classified_by_its_cause(cause: Exception | None, retried: bool) -> None:
    error = errors.RedisClusterException("no node could be asked")
    error.__cause__ = cause
    assert is_transient(error) == retried
    assert not was_not_executed(error)
    kind = ServerUnavailableError if retried else CommandRefusedError
    assert type(translate(error, "Redis Cluster")) is kind


def test_uncovered_slot_is_retried_regardless_of_its_cause() -> None:
    error = errors.SlotNotCoveredError("slot 1")
    error.__cause__ = errors.AuthenticationError("wrong")
    assert is_transient(error)
    assert was_not_executed(error)


def test_too_many_redirections_are_retried() -> None:
    # While a slot moves, or its primary fails over, redis-py gives up after 16 redirections.
    assert is_transient(errors.ClusterError("TTL exhausted."))


def caused(error: Exception, cause: Exception) -> Exception:
    """Set the cause of an error, and return it."""
    error.__cause__ = cause
    return error


NO_SLOTS = errors.RedisClusterException
PASSWORD = "Check the username and the password, and that both are passed."
OTHER_CLASS = "use the class without Cluster in its name."
ALL_IN_USE = "All connections are in use: raise `max_connection_pool_size` or `max_connections`."

#: error of redis-py, text of ours after the server
ADVICE: list[tuple[Exception, str]] = [
    (
        errors.AuthenticationError("WRONGPASS invalid"),
        f"refused a command: WRONGPASS invalid. {PASSWORD}",
    ),
    (
        errors.ResponseError("Protocol error: unauthenticated multibulk length"),
        f"refused a command: Protocol error: unauthenticated multibulk length. {PASSWORD}",
    ),
    (errors.AuthorizationError("no"), f"refused a command: no. {PASSWORD}"),
    (
        caused(NO_SLOTS("no node"), errors.AuthenticationError("wrong.")),
        f"refused a command: wrong. {PASSWORD}",
    ),
    (
        errors.OutOfMemoryError("OOM command not allowed"),
        (
            "refused a command: OOM command not allowed. Free memory on the server, or raise its "
            "`maxmemory`."
        ),
    ),
    (
        errors.ResponseError("The stream has exhausted the last possible ID, unable to add more"),
        (
            "refused a command: The stream has exhausted the last possible ID, unable to add more. "
            "An entry with the largest ID was added, so the stream takes no more: delete the key "
            "when all its entries are processed (DEL), or choose another name."
        ),
    ),
    (
        errors.MovedError("1 h:1"),
        ("refused a command: MOVED 1 h:1. This server is a cluster node: use the Cluster class."),
    ),
    (
        errors.ResponseError("SELECT is not allowed in cluster mode"),
        (
            "refused a command: SELECT is not allowed in cluster mode. This server is a "
            "cluster node: use the Cluster class, and database 0."
        ),
    ),
    (
        caused(
            NO_SLOTS("no node"),
            caused(NO_SLOTS("no cluster"), errors.ResponseError("cluster support disabled")),
        ),
        (
            "refused a command: cluster support disabled. This server is not a cluster node: "
            f"{OTHER_CLASS}"
        ),
    ),
    (
        errors.RedisClusterException("no"),
        (
            "refused a command: no. Check that the URL is that of a cluster node, and that the "
            "cluster covers all slots."
        ),
    ),
    (
        errors.ResponseError("unknown command 'SENTINEL'"),
        (
            "refused a command: unknown command 'SENTINEL'. This server is not a sentinel: check "
            "`sentinels`."
        ),
    ),
    (
        errors.ResponseError("unknown command 'XADD'"),
        (
            "refused a command: unknown command 'XADD'. Check that the server is Redis 6.2, "
            "Valkey 7.2 or later, and not a sentinel."
        ),
    ),
    (
        errors.ResponseError("DB index is out of range"),
        (
            "refused a command: DB index is out of range. Give the number of an existing database "
            "(CONFIG GET databases)."
        ),
    ),
    (
        errors.ResponseError("Protocol error: invalid bulk length"),
        (
            "refused a command: Protocol error: invalid bulk length. A value is longer than the "
            "server's `proto-max-bulk-len`: raise it, or send less."
        ),
    ),
    (
        errors.InvalidResponse("got H"),
        (
            "refused a command: got H. The server is not Redis, or requires TLS: check the port, or "
            "use rediss:// for TLS."
        ),
    ),
    (
        errors.DataError("bad"),
        "refused a command: bad. Check the connection options.",
    ),
    (
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        (
            "refused a command: 'utf-8' codec can't encode character '\\ud800' in position 0: "
            "surrogates not allowed. Give names and IDs that are valid text."
        ),
    ),
    (
        caused(errors.ConnectionError("1"), ssl.SSLCertVerificationError("self-signed")),
        ("refused a command: 1. Check the server's certificate and host name, and `ssl_ca_certs`."),
    ),
    (
        caused(errors.ConnectionError("1"), ssl.SSLError("WRONG_VERSION_NUMBER")),
        "did not answer: 1. Check that this port speaks TLS, and the `ssl_` options.",
    ),
    (
        caused(errors.ConnectionError("2"), FileNotFoundError("no such file")),
        ("did not answer: 2. Check the path of the socket, or the files in the `ssl_` options."),
    ),
    (
        errors.ConnectionError("No connection available."),
        f"can't execute it now: No connection available. {ALL_IN_USE}",
    ),
    (
        errors.ConnectionError("Too many connections"),
        f"can't execute it now: Too many connections. {ALL_IN_USE}",
    ),
    (errors.MaxConnectionsError(), f"can't execute it now: MaxConnectionsError. {ALL_IN_USE}"),
    (
        errors.ReadOnlyError("read only"),
        (
            "can't execute it now: read only. This server is a replica: give the address of the master, or use a "
            "Sentinel class."
        ),
    ),
    (
        errors.BusyLoadingError("loading"),
        "can't execute it now: loading. See the server's log.",
    ),
    (
        errors.ResponseError("MISCONF no disk"),
        "can't execute it now: MISCONF no disk. See the server's log.",
    ),
    (
        errors.ConnectionError(f"{NO_MASTER} (h:1 knows 'a')"),
        (
            "was not found: no sentinel returned its address (h:1 knows 'a'). Check `master_name` "
            "and `sentinels`. Only `sentinel_kwargs` has the password and the TLS options for the "
            "sentinels, such as {'ssl': True}."
        ),
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("error", "text"), ADVICE, ids=lambda value: repr(value)[:40])
def test_translated_error_has_the_server_reason_and_advice(error: Exception, text: str) -> None:
    translated = translate(error, "Redis at redis://h:1")
    assert str(translated) == f"Redis at redis://h:1 {text}"
    kind = CommandRefusedError if text.startswith("refused") else ServerUnavailableError
    assert type(translated) is kind
    assert isinstance(error, REDIS_ERRORS)
    assert is_transient(error) == (kind is ServerUnavailableError)


#: replies of different server versions about missing rights, ACL rules in the advice
RIGHTS = [
    (
        "this user has no permissions to run the 'lpush' command or its subcommand",
        "+lpush ~a",
    ),
    ("User it's has no permissions to run the 'cluster|slots' command", "+cluster|slots ~a"),
    ("User me has no permissions to run the 'publish' command", "+publish &a"),
    (
        "ACL failure in script: User me has no permissions to run the 'set' command script: on 1",
        "+set ~a",
    ),
    ("this user has no permissions to access one of the keys used as arguments", "~a"),
    ("No permissions to access a key", "~a"),
    ("No permissions to access a channel", "&a"),
    ("something else", "~a"),
]


@pytest.mark.parametrize(("text", "rules"), RIGHTS)
def test_advice_has_the_missing_acl_rules(text: str, rules: str) -> None:
    kind = errors.ResponseError if text.startswith("ACL") else errors.NoPermissionError
    assert str(translate(kind(text), "Redis", "a")) == (
        f"Redis, key 'a', refused a command: {text}. Grant this user the command and the key "
        f"(ACL SETUSER <user> {rules})."
    )


def test_advice_has_the_command_if_the_reply_has_none() -> None:
    def execute_command(*args: Any) -> None:
        raise errors.NoPermissionError("No permissions to access a key")

    try:
        execute_command("CONFIG GET", "a")
    except errors.NoPermissionError as error:
        translated = translate(error, "Redis", "b", "c")
    assert "Redis, one of the keys 'b', 'c', refused" in str(translated)
    assert "(ACL SETUSER <user> +config|get ~b ~c)" in str(translated)


def test_undecodable_reply_is_translated_to_an_invalid_option() -> None:
    error = UnicodeDecodeError("utf-8", b"\x80", 0, 1, "invalid start byte")
    assert isinstance(error, REDIS_ERRORS)
    assert str(translate(error, "Redis", "k")) == (
        "Invalid option `decode_responses`: a reply of Redis, key 'k', is not valid text. "
        "Leave this connection option out, or use a serializer that writes text."
    )


def test_long_keys_and_many_keys_are_truncated() -> None:
    error = errors.ResponseError("WRONGTYPE")
    text = str(translate(error, "Redis", "x" * 1000, *"abcdef"))
    assert f"one of the keys '{'x' * 200}'..., 'a', 'b', 'c', ..., refused" in text


def test_strip_tracebacks_keeps_the_messages() -> None:
    def connect() -> None:
        try:
            (Path(__file__) / "x").touch()
        except OSError as cause:
            raise errors.ConnectionError("no connection") from cause

    try:
        connect()
    except errors.ConnectionError as error:
        shown = "".join(traceback.format_exception(strip_tracebacks(error)))
    assert "NotADirectoryError" in shown
    assert "redis.exceptions.ConnectionError: no connection" in shown
    assert ", line " not in shown


def test_wrong_type_is_translated_to_wrong_key_type_error() -> None:
    error = errors.ResponseError("WRONGTYPE Operation against a key")
    translated = translate(error, "Redis")
    assert type(translated) is WrongKeyTypeError
    assert str(translated) == (
        "Redis refused a command: WRONGTYPE Operation against a key. "
        "The key is used for something else: choose another name, or delete the key."
    )


def test_reason_of_an_error_without_text_is_its_class() -> None:
    assert "did not answer: TimeoutError." in str(translate(errors.TimeoutError(), "Redis"))


def test_errors_of_this_package_are_not_translated() -> None:
    for error in (ServerUnavailableError(server="a", reason="b"), ResultIsMissingError(key="k")):
        assert translate(error, "Redis") is error


@pytest.mark.parametrize(
    ("text", "code"),
    [("NOGROUP No such key", "NOGROUP"), ("BUSYGROUP", "BUSYGROUP"), ("", ""), (" x", "")],
)
def test_error_code_is_the_first_word(text: str, code: str) -> None:
    assert error_code(errors.ResponseError(text)) == code


@pytest.mark.smoke
def test_backoff_grows_up_to_a_maximum_with_jitter() -> None:
    for attempt in range(70):
        full = min(MIN_BACKOFF * 2**attempt, MAX_BACKOFF)
        pauses = [backoff(attempt) for _ in range(20)]
        assert all(full / 2 <= pause <= full for pause in pauses)
        assert len(set(pauses)) > 1
    assert backoff(10**6) <= MAX_BACKOFF


@pytest.mark.smoke
def test_outage_logs_the_first_failure_and_the_recovery(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    outage = Outage(logging.getLogger("test"), "Listening")
    outage.record_success()
    assert not caplog.records
    error: TaskIQRedisError = ServerUnavailableError(server="Redis", reason="gone")
    pauses: list[Any] = []
    for _ in range(8):
        pauses.append(outage.record_failure(error))
        now[0] += 1
    outage.record_success()
    outage.record_success()
    assert [record.getMessage() for record in caplog.records] == [
        f"Listening was interrupted and is retried: {error}",
        "Listening resumed after 8.0 s.",
    ]
    assert pauses[0] <= MIN_BACKOFF
    assert MAX_BACKOFF / 2 <= pauses[-1] <= MAX_BACKOFF

    caplog.clear()
    assert outage.record_failure(error) <= MIN_BACKOFF
    outage.record_success()
    assert len(caplog.records) == 2
