# Generated from tests/_async/test_secrets.py by scripts/unasync.py; edit that.

"""Passwords and arguments are in no text for users, whatever the server answers."""

import logging
import traceback
from typing import Any

import pytest

from taskiq_redis.exceptions import TaskIQRedisError
from tests._sync.bad_input import FAIL_SOON, MECHANISMS, ON, at_port, names_of, use
from tests._sync.support import build, message, opened, result
from tests.leaks import ARGUMENT, PASSWORD
from tests.servers import ServerProcess, Topology


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__cause__)


@pytest.fixture(scope="module", params=["HELLO", "AUTH"])
def server_without(request: pytest.FixtureRequest) -> Any:
    """A server on which a command with the password is disabled, and the protocol that uses it."""
    command: str = request.param
    with ServerProcess(extra={"rename-command": f'{command} ""'}) as server:
        yield server, {"HELLO": 3, "AUTH": 2}[command]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_password_is_not_shown_where_its_command_is_disabled(
    topology: Topology, name: str, mechanism: str, server_without: Any, caplog: Any
) -> None:
    server, protocol = server_without
    options = {"username": "me", "password": PASSWORD, "protocol": protocol}
    where = at_port(topology, server.port)
    with opened(where, mechanism, **options, **names_of(mechanism, name)) as made:
        with pytest.raises(TaskIQRedisError, match="unknown command") as error:
            use(made, mechanism)
        assert "marker" not in text_of(error.value) + repr(made)
        with pytest.raises(TaskIQRedisError, match="unknown command") as error:
            made._connection.check()
    advice = {3: "pass `protocol=2`", 2: "AUTH is disabled"}[protocol]
    assert advice in str(error.value)
    assert "marker" not in text_of(error.value) + caplog.text


@ON["sentinel"]
def test_password_for_sentinels_is_not_shown(
    topology: Topology, name: str, server_without: Any
) -> None:
    server, protocol = server_without
    # It isn't a sentinel, but refuses the connection before that matters.
    where = at_port(topology, server.port)
    login = {"username": "me", "password": PASSWORD, "protocol": protocol}
    options = {"sentinel_kwargs": login, "queue_name": name, **FAIL_SOON}
    with opened(where, "list", **options) as broker:
        with pytest.raises(TaskIQRedisError, match="unknown command") as error:
            broker.kick(message(b"a"))
    assert "marker" not in text_of(error.value)


@pytest.fixture(scope="module")
def server_without_writes() -> Any:
    """A server without scripts, and without the commands that replace them."""
    disabled = ("EVAL", "EVALSHA", "XADD", "LPUSH", "PUBLISH", "SET")
    with ServerProcess(extra={f"rename-command {each}": '""' for each in disabled}) as made:
        yield made


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_arguments_are_not_shown_where_commands_are_disabled(
    topology: Topology, name: str, server_without_writes: Any, caplog: Any
) -> None:
    where = at_port(topology, server_without_writes.port)
    texts = []
    with caplog.at_level(logging.DEBUG, "taskiq_redis"):
        for mechanism in ("list", "stream", "pubsub"):
            with opened(where, mechanism, queue_name=name) as broker:
                with pytest.raises(TaskIQRedisError, match="unknown command") as error:
                    broker.kick_many([message(ARGUMENT.encode())] * 2)
                texts.append(text_of(error.value))
        with opened(where, "results", prefix_str=name) as backend:
            with pytest.raises(TaskIQRedisError, match="unknown command") as error:
                backend.set_result("id", result(ARGUMENT))
            texts.append(text_of(error.value))
    assert "marker" not in "".join(texts) + caplog.text


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_listener_logs_no_password(topology: Topology, server_without: Any) -> None:
    server, protocol = server_without
    where = at_port(topology, server.port)
    broker = build(where, "list", username="me", password=PASSWORD, protocol=protocol)
    reader = broker._open_reader
    for _ in range(2):
        with pytest.raises(Exception, match="unknown command") as error:
            reader().fetch()
        outage = broker._connection.outage(error.value, "taskiq")
        assert "marker" not in text_of(outage) + str(error.value)
    broker.shutdown()
