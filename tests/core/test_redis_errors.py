"""What the errors of redis-py mean: which pass, which don't, and what the user is told."""

import logging
import ssl
import traceback
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as errors

from taskiq_redis._core import redis_errors
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

#: the server did nothing, and may soon
NOT_NOW = (True, True)
#: whether the server did anything is unknown
LOST = (False, True)
#: trying again is no use
REFUSED = (False, False)

#: every exception of redis-py: whether the server did nothing, and whether it passes
TABLE = {
    "AskError": REFUSED,
    "AuthenticationError": REFUSED,
    "AuthenticationWrongNumberOfArgsError": REFUSED,
    "AuthorizationError": REFUSED,
    "BusyLoadingError": NOT_NOW,
    "ClusterCrossSlotError": REFUSED,
    "ClusterDownError": NOT_NOW,
    "ClusterError": NOT_NOW,
    "ConnectionError": LOST,
    "CrossSlotTransactionError": REFUSED,
    "DataError": REFUSED,
    "ExecAbortError": REFUSED,
    "ExternalAuthProviderError": LOST,
    "InvalidPipelineStack": REFUSED,
    "InvalidResponse": REFUSED,
    "LockError": REFUSED,
    "LockNotOwnedError": REFUSED,
    "MasterDownError": NOT_NOW,
    "MaxConnectionsError": NOT_NOW,
    "ModuleError": REFUSED,
    "MovedError": REFUSED,
    "NoPermissionError": REFUSED,
    "NoScriptError": REFUSED,
    "NoSuchFieldsetError": REFUSED,
    "OutOfMemoryError": REFUSED,
    "PubSubError": REFUSED,
    "ReadOnlyError": NOT_NOW,
    "RedisClusterException": REFUSED,
    "RedisError": REFUSED,
    "ResponseError": REFUSED,
    "SlotNotCoveredError": NOT_NOW,
    "TimeoutError": LOST,
    "TryAgainError": NOT_NOW,
    "WatchError": REFUSED,
}

#: not about the server or the network, and so not caught
OTHERS = {"ChildDeadlockedError", "IncorrectPolicyType"}

KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


def make(name: str) -> Exception:
    error: Exception = KINDS[name]("1 127.0.0.1:7000")
    return error


def test_the_table_is_complete() -> None:
    assert KINDS.keys() - TABLE.keys() - OTHERS == set()


@pytest.mark.parametrize("name", sorted(OTHERS & KINDS.keys()))
def test_what_is_not_of_the_server_is_not_caught(name: str) -> None:
    assert not issubclass(KINDS[name], REDIS_ERRORS)


@pytest.mark.parametrize("name", sorted(TABLE.keys() & KINDS.keys()))
def test_what_an_error_means(name: str) -> None:
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
def test_errors_of_the_network_pass(error: OSError) -> None:
    assert isinstance(error, REDIS_ERRORS)
    assert is_transient(error)
    assert not was_not_executed(error)
    assert isinstance(translate(error, "Redis"), ServerUnavailableError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x")], ids=repr)
def test_faults_of_a_program_do_not_pass(error: Exception) -> None:
    assert not isinstance(error, REDIS_ERRORS)
    assert not is_transient(error)
    assert not was_not_executed(error)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("cause", "passes"),
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
def test_a_cluster_error_is_what_its_cause_is(cause: Exception | None, passes: bool) -> None:
    error = errors.RedisClusterException("no node could be asked")
    error.__cause__ = cause
    assert is_transient(error) == passes
    assert not was_not_executed(error)
    kind = ServerUnavailableError if passes else CommandRefusedError
    assert type(translate(error, "Redis Cluster")) is kind


def test_a_slot_without_a_node_passes_whatever_the_cause() -> None:
    error = errors.SlotNotCoveredError("slot 1")
    error.__cause__ = errors.AuthenticationError("wrong")
    assert is_transient(error)
    assert was_not_executed(error)


def test_a_cluster_that_sends_us_from_node_to_node_settles_soon() -> None:
    # While a slot moves, or its primary fails over, redis-py gives up after 16 redirections.
    assert is_transient(errors.ClusterError("TTL exhausted."))


def caused(error: Exception, cause: Exception) -> Exception:
    """Return an error with its cause."""
    error.__cause__ = cause
    return error


NO_SLOTS = errors.RedisClusterException
PASSWORD = "Check the username and the password, and whether they are given at all."
OTHER_CLASS = "use the class without Cluster in its name."
ALL_IN_USE = "All connections are in use: raise `max_connection_pool_size`, or `max_connections`."

#: errors that the user can do something about: what redis-py raises, and what we say then
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
            "maxmemory."
        ),
    ),
    (
        errors.MovedError("1 h:1"),
        (
            "refused a command: MOVED 1 h:1. This server is a node of a cluster: use the Cluster "
            "class."
        ),
    ),
    (
        errors.ResponseError("SELECT is not allowed in cluster mode"),
        (
            "refused a command: SELECT is not allowed in cluster mode. This server is a node of a "
            "cluster: use the Cluster class, and database 0."
        ),
    ),
    (
        caused(
            NO_SLOTS("no node"),
            caused(NO_SLOTS("no cluster"), errors.ResponseError("cluster support disabled")),
        ),
        (
            "refused a command: cluster support disabled. This server is no node of a cluster: "
            f"{OTHER_CLASS}"
        ),
    ),
    (
        errors.RedisClusterException("no"),
        (
            "refused a command: no. Check that the URL names a node of a cluster that covers all "
            "slots."
        ),
    ),
    (
        errors.ResponseError("unknown command 'SENTINEL'"),
        (
            "refused a command: unknown command 'SENTINEL'. This server is no sentinel: check "
            "`sentinels`."
        ),
    ),
    (
        errors.ResponseError("unknown command 'XADD'"),
        (
            "refused a command: unknown command 'XADD'. Check that the server is Redis 6.2 or "
            "Valkey 7.2, or later, and no sentinel."
        ),
    ),
    (
        errors.ResponseError("DB index is out of range"),
        (
            "refused a command: DB index is out of range. Give a database that the server has "
            "(CONFIG GET databases)."
        ),
    ),
    (
        errors.ResponseError("Protocol error: invalid bulk length"),
        (
            "refused a command: Protocol error: invalid bulk length. A value is longer than the "
            "server's proto-max-bulk-len: raise that, or send less."
        ),
    ),
    (
        errors.InvalidResponse("got H"),
        (
            "refused a command: got H. What answers is no Redis, or wants TLS: check the port, and "
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
            "surrogates not allowed. Give names and ids that are valid text."
        ),
    ),
    (
        caused(errors.ConnectionError("1"), ssl.SSLCertVerificationError("self-signed")),
        (
            "refused a command: 1. Check the server's certificate, its host name, and "
            "`ssl_ca_certs`."
        ),
    ),
    (
        caused(errors.ConnectionError("1"), ssl.SSLError("WRONG_VERSION_NUMBER")),
        "did not answer: 1. Check that this port speaks TLS, and the `ssl_` options.",
    ),
    (
        caused(errors.ConnectionError("2"), FileNotFoundError("no such file")),
        ("did not answer: 2. Check the path of the socket, or of the files in the `ssl_` options."),
    ),
    (
        errors.ConnectionError("No connection available."),
        f"can't do it now: No connection available. {ALL_IN_USE}",
    ),
    (
        errors.ConnectionError("Too many connections"),
        f"can't do it now: Too many connections. {ALL_IN_USE}",
    ),
    (errors.MaxConnectionsError(), f"can't do it now: MaxConnectionsError. {ALL_IN_USE}"),
    (
        errors.ReadOnlyError("read only"),
        (
            "can't do it now: read only. It is a replica: give the address of the master, or use a "
            "Sentinel class."
        ),
    ),
    (
        errors.BusyLoadingError("loading"),
        "can't do it now: loading. The server's log may say more.",
    ),
    (
        errors.ResponseError("MISCONF no disk"),
        "can't do it now: MISCONF no disk. The server's log may say more.",
    ),
    (
        errors.ConnectionError(f"{NO_MASTER} (h:1 knows 'a')"),
        (
            "was not found: no sentinel tells where it is (h:1 knows 'a'). Check `master_name`, "
            "`sentinels` and, where sentinels want a password, `sentinel_kwargs`."
        ),
    ),
]


@pytest.mark.smoke
@pytest.mark.parametrize(("error", "told"), ADVICE, ids=lambda value: repr(value)[:40])
def test_an_error_names_the_server_the_reason_and_what_to_do(error: Exception, told: str) -> None:
    translated = translate(error, "Redis at redis://h:1")
    assert str(translated) == f"Redis at redis://h:1 {told}"
    kind = CommandRefusedError if told.startswith("refused") else ServerUnavailableError
    assert type(translated) is kind
    assert isinstance(error, REDIS_ERRORS)
    assert is_transient(error) == (kind is ServerUnavailableError)


#: how servers of different versions say that a right is missing
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
def test_a_missing_right_is_named(text: str, rules: str) -> None:
    kind = errors.ResponseError if text.startswith("ACL") else redis_errors.NoPermissionError
    assert str(translate(kind(text), "Redis", "a")) == (
        f"Redis, key 'a', refused a command: {text}. Give this user the right to that command and "
        f"key (ACL SETUSER <user> {rules})."
    )


def test_the_command_is_named_where_the_server_names_none() -> None:
    def execute_command(*args: Any) -> None:
        raise errors.NoPermissionError("No permissions to access a key")

    try:
        execute_command("CONFIG GET", "a")
    except errors.NoPermissionError as error:
        translated = translate(error, "Redis", "b", "c")
    assert "Redis, one of the keys 'b', 'c', refused" in str(translated)
    assert "(ACL SETUSER <user> +config|get ~b ~c)" in str(translated)


def test_a_reply_that_is_no_text_is_the_fault_of_an_option() -> None:
    error = UnicodeDecodeError("utf-8", b"\x80", 0, 1, "invalid start byte")
    assert isinstance(error, REDIS_ERRORS)
    assert str(translate(error, "Redis", "k")) == (
        "Invalid option `decode_responses`: what Redis, key 'k', sent is no text. "
        "Leave this connection option out, or use a serializer that writes text."
    )


def test_long_and_many_names_are_cut() -> None:
    error = errors.ResponseError("WRONGTYPE")
    text = str(translate(error, "Redis", "x" * 1000, *"abcdef"))
    assert f"one of the keys '{'x' * 200}'..., 'a', 'b', 'c', ..., refused" in text


def test_a_log_shows_what_an_error_says_and_not_where_it_came_up() -> None:
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


def test_a_key_of_another_type_is_an_error_of_its_own() -> None:
    error = errors.ResponseError("WRONGTYPE Operation against a key")
    translated = translate(error, "Redis")
    assert type(translated) is WrongKeyTypeError
    assert str(translated) == (
        "Redis refused a command: WRONGTYPE Operation against a key. "
        "Another program uses this key: choose another name, or delete the key."
    )


def test_an_error_without_a_text_has_its_class_for_a_reason() -> None:
    assert "did not answer: TimeoutError." in str(translate(errors.TimeoutError(), "Redis"))


def test_our_own_errors_are_left_as_they_are() -> None:
    for error in (ServerUnavailableError(server="a", reason="b"), ResultIsMissingError(key="k")):
        assert translate(error, "Redis") is error


@pytest.mark.parametrize(
    ("text", "code"),
    [("NOGROUP No such key", "NOGROUP"), ("BUSYGROUP", "BUSYGROUP"), ("", ""), (" x", "")],
)
def test_the_code_of_an_error_is_its_first_word(text: str, code: str) -> None:
    assert error_code(errors.ResponseError(text)) == code


@pytest.mark.smoke
def test_pauses_grow_up_to_a_bound_and_are_jittered() -> None:
    for attempt in range(70):
        full = min(MIN_BACKOFF * 2**attempt, MAX_BACKOFF)
        pauses = [backoff(attempt) for _ in range(20)]
        assert all(full / 2 <= pause <= full for pause in pauses)
        assert len(set(pauses)) > 1
    assert backoff(10**6) <= MAX_BACKOFF


@pytest.mark.smoke
def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(redis_errors.time, "monotonic", lambda: now[0])
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
        f"Listening was interrupted, and will be tried again: {error}",
        "Listening goes on after 8.0 s.",
    ]
    assert pauses[0] <= MIN_BACKOFF
    assert MAX_BACKOFF / 2 <= pauses[-1] <= MAX_BACKOFF

    caplog.clear()
    assert outage.record_failure(error) <= MIN_BACKOFF
    outage.record_success()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("code", ["NOREPLICAS Not enough good replicas", "BUSY running", "MISCONF"])
def test_a_server_that_can_not_write_now_did_nothing(code: str) -> None:
    error = errors.ResponseError(code)
    assert was_not_executed(error)
    assert is_transient(error)
