"""Commands find their target by its import path or its server, and never show its password."""

import json
from typing import Any

import pytest

from taskiq_redis.cli.targets import parse_sentinels
from tests.cli.support import run
from tests.leaks import PASSWORD
from tests.servers import Topology, client_of

APP = "tests.cli.app_of_user"

pytestmark = pytest.mark.parametrize("topology", ["single"], indirect=True)


@pytest.fixture(autouse=True)
def _app(topology: Topology, name: str, monkeypatch: Any) -> None:
    """Import the user's module for this test."""
    monkeypatch.setenv("TEST_APP_URL", topology.url)
    monkeypatch.setenv("TEST_APP_NAME", name)
    monkeypatch.delitem(__import__("sys").modules, APP, raising=False)


def queues(*words: str) -> list[str]:
    """Return the names that `info` shows."""
    result = run("info", "--json", *words)
    assert result.exit_code == 0, result.output
    return [each["queue_name"] for each in json.loads(result.stdout)["queues"]]


@pytest.mark.parametrize("attribute", ["broker", "factory", "scheduler"])
def test_broker_is_imported(name: str, attribute: str) -> None:
    assert queues(f"{APP}:{attribute}") == [name, f"{name}-2"]


def test_blocking_broker_is_imported(name: str) -> None:
    assert queues(f"{APP}:blocking") == [name]
    assert queues(f"{APP}:blocking", "--queue", "other") == ["other"]


def test_output_of_the_module_is_no_part_of_the_answer(name: str) -> None:
    assert queues(f"{APP}:printing_factory") == [name, f"{name}-2"]


def test_environment_names_the_target(topology: Topology, name: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("TASKIQ_REDIS_URL", topology.url)
    assert queues("--queue", "other") == ["other"]
    monkeypatch.setenv("TASKIQ_REDIS_BROKER", f"{APP}:blocking")
    assert queues() == [name]
    # What is on the command line counts.
    assert queues("--url", topology.url) == ["taskiq"]


def test_module_is_found_in_the_app_dir(
    topology: Topology, tmp_path: Any, monkeypatch: Any
) -> None:
    code = f"from taskiq_redis import ListQueueBroker\nb = ListQueueBroker({topology.url!r})\n"
    (tmp_path / "module_in_app_dir.py").write_text(code)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert queues("module_in_app_dir:b", "--app-dir", str(tmp_path)) == ["taskiq"]


@pytest.mark.parametrize("attribute", ["source", "scheduler"])
def test_schedule_source_is_imported(attribute: str) -> None:
    result = run("schedules", "list", f"{APP}:{attribute}", "--json")
    assert (result.exit_code, result.output) == (0, "")
    words = (f"{APP}:{attribute}", "missing")
    assert "no schedule 'missing'" in run("schedules", "show", *words).output


def test_ids_come_after_the_import_path(topology: Topology, name: str, monkeypatch: Any) -> None:
    client_of(topology).xadd(f"{{{name}}}:dead", {"data": b"x"}, id="1-0")
    assert run("dead", "show", f"{APP}:broker", "1-0").exit_code == 0
    monkeypatch.setenv("TASKIQ_REDIS_URL", topology.url)
    assert run("dead", "show", "1-0", "--queue", name).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info"], "unclear which broker"),
        (["info", f"{APP}:missing"], "AttributeError"),
        (["info", "no_such_module:broker"], "ModuleNotFoundError"),
        (["info", f"{APP}:failing_factory"], "app_of_user.py, line "),
        (["info", f"{APP}:importing_factory"], "no driver for redis://host"),
        (["ping", f"{APP}:ending_factory"], "SystemExit"),
        (["info", f"{APP}:async_factory"], "async function"),
        (["info", "nonsense"], "not an import path"),
        (["info", f"{APP}:source"], "not a broker"),
        (["info", f"{APP}:url"], "not a broker"),
        (["info", f"{APP}:in_memory"], "no queue in Redis"),
        (["schedules", "list", f"{APP}:in_memory_source"], "no schedules in Redis"),
        (["schedules", "list", f"{APP}:broker"], "not a schedule source"),
        (["schedules", "list", f"{APP}:foreign_scheduler"], "no schedule source"),
        (["info", f"{APP}:broker", "--url", "redis://h"], "Both"),
        (["info", "--url", "redis://h", "--cluster", "--sentinel", "m"], "Both"),
        (["info", "--url", "redis://h/x", "--sentinel", "m"], "name sentinels"),
        (["info", "--url", "http://h"], "redis://"),
        (
            ["info", "--url", "redis://h", "--mechanism", "list", "--group", "g"],
            "no consumer groups",
        ),
        (["info", "--url", "redis://h", "--mechanism", "magic"], "magic"),
        (["trim", f"{APP}:broker", "--queue", "other", "--yes"], "another queue"),
    ],
)
def test_wrong_targets_exit_with_2_and_say_what_is_wrong(words: list[str], message: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert PASSWORD not in result.output


def test_wrong_password_is_not_shown(topology: Topology) -> None:
    quoted = PASSWORD.replace("@", "%40").replace(":", "%3A")
    url = topology.url.replace("://", f"://nobody:{quoted}@")
    for words in (["info"], ["ping"], ["dead", "list"], ["purge"]):
        result = run(*words, "--url", url)
        assert result.exit_code == 2
        assert PASSWORD not in result.output
        assert quoted not in result.output


def test_sentinels_and_login_are_read_from_the_url() -> None:
    assert parse_sentinels("redis://u:p%40w@one:1,two/3") == (
        [("one", 1), ("two", 26379)],
        {"username": "u", "password": "p@w", "db": 3},
    )
    assert parse_sentinels("rediss://:pw@[::1]:5") == (
        [("::1", 5)],
        {"password": "pw", "ssl": True, "sentinel_kwargs": {"ssl": True}},
    )
