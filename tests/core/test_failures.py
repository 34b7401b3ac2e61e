"""What the errors of redis-py mean: which pass, which don't, and what the user is told."""

import logging
from typing import Any

import pytest
from redis import exceptions as redis_errors

from taskiq_redis._core import failures
from taskiq_redis._core.failures import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    REDIS_ERRORS,
    Outage,
    backoff,
    did_nothing,
    error_code,
    is_transient,
    translate,
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
    "MaxConnectionsError": LOST,
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
    for name, kind in vars(redis_errors).items()
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
    assert (did_nothing(error), is_transient(error)) == TABLE[name]
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
    assert not did_nothing(error)
    assert isinstance(translate(error, "Redis"), ServerUnavailableError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x")], ids=repr)
def test_faults_of_a_program_do_not_pass(error: Exception) -> None:
    assert not isinstance(error, REDIS_ERRORS)
    assert not is_transient(error)
    assert not did_nothing(error)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("cause", "passes"),
    [
        (redis_errors.ConnectionError("refused"), True),
        (redis_errors.TimeoutError("late"), True),
        (redis_errors.BusyLoadingError("loading"), True),
        (ConnectionRefusedError(111, "refused"), True),
        (redis_errors.AuthenticationError("wrong"), False),
        (redis_errors.AuthorizationError("wrong"), False),
        (redis_errors.ResponseError("wrong"), False),
        (redis_errors.RedisClusterException("wrong"), False),
        (ValueError("wrong"), False),
        (None, False),
    ],
    ids=repr,
)
def test_a_cluster_error_is_what_its_cause_is(cause: Exception | None, passes: bool) -> None:
    error = redis_errors.RedisClusterException("no node could be asked")
    error.__cause__ = cause
    assert is_transient(error) == passes
    assert not did_nothing(error)
    kind = ServerUnavailableError if passes else CommandRefusedError
    assert type(translate(error, "Redis Cluster")) is kind


def test_a_slot_without_a_node_passes_whatever_the_cause() -> None:
    error = redis_errors.SlotNotCoveredError("slot 1")
    error.__cause__ = redis_errors.AuthenticationError("wrong")
    assert is_transient(error)
    assert did_nothing(error)


def test_a_cluster_that_sends_us_from_node_to_node_settles_soon() -> None:
    # While a slot moves, or its primary fails over, redis-py gives up after 16 redirections.
    assert is_transient(redis_errors.ClusterError("TTL exhausted."))


ADVICE = [
    (
        redis_errors.AuthenticationError("WRONGPASS invalid"),
        "Check the username and the password.",
    ),
    (redis_errors.AuthorizationError("no"), "Check the username and the password."),
    (
        redis_errors.NoPermissionError("NOPERM this user"),
        "Give this user the right to that command and key (ACL SETUSER).",
    ),
    (
        redis_errors.OutOfMemoryError("OOM command not allowed"),
        "Free memory on the server, or raise its maxmemory.",
    ),
    (
        redis_errors.MovedError("1 h:1"),
        "This server is a node of a cluster: use the Cluster class.",
    ),
    (
        redis_errors.RedisClusterException("no"),
        "Check that the URL names a node of a cluster that covers all slots.",
    ),
    (
        redis_errors.ResponseError("ERR unknown command"),
        "Check that the server is Redis 6.2 or Valkey 7.2, or later.",
    ),
    (redis_errors.DataError("bad"), "Check the connection options."),
]


@pytest.mark.parametrize(("error", "advice"), ADVICE, ids=lambda value: type(value).__name__)
def test_a_refusal_names_the_server_the_reason_and_what_to_do(
    error: Exception, advice: str
) -> None:
    translated = translate(error, "Redis at redis://h:1")
    assert str(translated) == f"Redis at redis://h:1 refused a command: {error}. {advice}"


def test_a_key_of_another_type_is_an_error_of_its_own() -> None:
    error = redis_errors.ResponseError("WRONGTYPE Operation against a key")
    translated = translate(error, "Redis")
    assert type(translated) is WrongKeyTypeError
    assert str(translated) == (
        "Redis refused a command: WRONGTYPE Operation against a key. "
        "Another program uses this key: choose another name, or delete the key."
    )


def test_silence_names_the_server_the_reason_and_what_to_do() -> None:
    translated = translate(redis_errors.ConnectionError("refused"), "Redis at redis://h:1")
    assert str(translated) == (
        "Redis at redis://h:1 did not answer: refused. Check that it runs, that the address is "
        "right and that the network lets us through."
    )


def test_an_error_without_a_text_has_its_class_for_a_reason() -> None:
    assert "did not answer: TimeoutError." in str(translate(redis_errors.TimeoutError(), "Redis"))


def test_our_own_errors_are_left_as_they_are() -> None:
    for error in (ServerUnavailableError(server="a", reason="b"), ResultIsMissingError(key="k")):
        assert translate(error, "Redis") is error


@pytest.mark.parametrize(
    ("text", "code"),
    [("NOGROUP No such key", "NOGROUP"), ("BUSYGROUP", "BUSYGROUP"), ("", ""), (" x", "")],
)
def test_the_code_of_an_error_is_its_first_word(text: str, code: str) -> None:
    assert error_code(redis_errors.ResponseError(text)) == code


@pytest.mark.smoke
def test_pauses_grow_up_to_a_bound_and_are_jittered() -> None:
    for attempt in range(70):
        full = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        pauses = [backoff(attempt) for _ in range(20)]
        assert all(full / 2 <= pause <= full for pause in pauses)
        assert len(set(pauses)) > 1
    assert backoff(10**6) <= LONGEST_PAUSE


@pytest.mark.smoke
def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(failures.time, "monotonic", lambda: now[0])
    outage = Outage(logging.getLogger("test"), "Listening")
    outage.succeeded()
    assert not caplog.records
    error: TaskIQRedisError = ServerUnavailableError(server="Redis", reason="gone")
    pauses: list[Any] = []
    for _ in range(8):
        pauses.append(outage.failed(error))
        now[0] += 1
    outage.succeeded()
    outage.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        f"Listening was interrupted, and will be tried again: {error}",
        "Listening goes on after 8.0 s.",
    ]
    assert pauses[0] <= FIRST_PAUSE
    assert LONGEST_PAUSE / 2 <= pauses[-1] <= LONGEST_PAUSE

    caplog.clear()
    assert outage.failed(error) <= FIRST_PAUSE
    outage.succeeded()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("code", ["NOREPLICAS Not enough good replicas", "BUSY running", "MISCONF"])
def test_a_server_that_can_not_write_now_did_nothing(code: str) -> None:
    error = redis_errors.ResponseError(code)
    assert did_nothing(error)
    assert is_transient(error)
