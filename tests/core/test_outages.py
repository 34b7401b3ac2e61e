"""Which errors are outages, and which of them lead to another server."""

from collections.abc import Callable

import pytest
from redis import exceptions as errors
from redis.retry import Retry

from taskiq_redis._core.redis_errors import (
    as_outage,
    error_code,
    is_from_redis_py,
    is_transient,
    leads_to_wrong_server,
    translate,
    was_not_executed,
)
from taskiq_redis.exceptions import (
    ServerUnavailableError,
    WrongKeyTypeError,
)
from tests.core.test_redis_errors import make


@pytest.mark.parametrize("code", ["NOREPLICAS Not enough good replicas", "BUSY running", "MISCONF"])
def test_refused_writes_are_not_executed_and_retried(code: str) -> None:
    error = errors.ResponseError(code)
    assert was_not_executed(error)
    assert is_transient(error)


#: errors inside scripts, as Redis 6.2 reports them: text, was_not_executed and code
IN_SCRIPT = [
    ("@user_script: 1: -READONLY You can't write against a read only replica.", True, "You"),
    ("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", False, "command"),
    ("-MISCONF Redis is configured to save RDB snapshots", True, "MISCONF"),
    ("WRONGTYPE Operation against a key", False, "WRONGTYPE"),
    ("@user_script: 2: Unknown Redis command called from Lua script", False, "Error"),
]


@pytest.mark.parametrize(("text", "not_executed", "code"), IN_SCRIPT)
def test_code_of_error_inside_script_is_read(text: str, not_executed: bool, code: str) -> None:
    error = errors.ResponseError(f"Error running script (call to f_e3f): @user_script:1: {text}")
    assert was_not_executed(error) is is_transient(error) is not_executed
    assert leads_to_wrong_server(error) is not_executed
    assert error_code(error) == code
    translated = translate(error, "Redis")
    assert isinstance(translated, ServerUnavailableError) is not_executed
    assert isinstance(translated, WrongKeyTypeError) is (code == "WRONGTYPE")


@pytest.mark.parametrize("name", ["ReadOnlyError", "BusyLoadingError", "MasterDownError"])
def test_server_that_is_no_primary_is_left(name: str) -> None:
    assert leads_to_wrong_server(make(name))


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectionError("gone"),
        errors.MaxConnectionsError(),
        errors.TryAgainError("slot"),
        errors.ResponseError("NOGROUP"),
    ],
)
def test_server_is_not_left_after_other_errors(error: Exception) -> None:
    assert not leads_to_wrong_server(error)


def connect() -> None:
    """Fail as a credential provider does when redis-py connects."""
    raise KeyError("token")


def interrupt() -> None:
    """Fail as a signal handler may."""
    raise KeyError("alarm")


@pytest.mark.parametrize(
    ("fail", "of_redis_py", "not_executed"),
    [(connect, True, True), (interrupt, False, False)],
)
def test_undocumented_exception_is_an_outage(
    fail: Callable[[], None], of_redis_py: bool, not_executed: bool
) -> None:
    with pytest.raises(KeyError) as caught:
        fail()
    assert is_from_redis_py(caught.value) is of_redis_py
    outage = as_outage(caught.value)
    assert is_transient(outage)
    assert was_not_executed(outage) is not_executed
    translated = translate(outage, "Redis")
    assert isinstance(translated, ServerUnavailableError)
    assert f"raised by {fail.__name__} in test_outages.py, line" in str(translated)
    assert "credential provider" in str(translated)


def test_error_inside_redis_py_is_an_outage() -> None:
    class Broken(Retry):
        def __init__(self) -> None:
            pass

    with pytest.raises(AttributeError) as caught:
        Broken().call_with_retry(lambda: None, lambda _: None)
    assert is_from_redis_py(caught.value)
    assert is_transient(as_outage(caught.value))


def test_cause_of_error_of_cluster_client_is_an_outage() -> None:
    error = errors.RedisClusterException("no node can be reached")
    with pytest.raises(KeyError) as caught:
        connect()
    error.__cause__ = caught.value
    assert was_not_executed(error)
    assert is_transient(error)
    assert isinstance(translate(error, "Redis"), ServerUnavailableError)
