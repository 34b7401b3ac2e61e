"""The program: how it starts, and what it needs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from taskiq_redis import __version__
from taskiq_redis.cli import main
from taskiq_redis.cli.app import app
from tests.cli.support import run
from tests.servers import Topology
from tests.waiting import TIMEOUT

ROOT = Path(__file__).parent.parent.parent


def test_program_runs() -> None:
    """`python -m taskiq_redis` is also run by test_metrics.py."""
    script = Path(sys.executable).with_name("taskiq-redis")
    # It isn't there if the project is on the path, but not installed.
    command = [str(script)] if script.exists() else [sys.executable, "-m", "taskiq_redis"]
    ended = subprocess.run(
        [*command, "info", "nonsense"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("'nonsense' is not an import path.")


def test_version_is_printed() -> None:
    assert run("version").output == f"{__version__}\n"


def test_project_has_the_program() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert '[project.scripts]\ntaskiq-redis = "taskiq_redis.cli:main"\n' in project


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_missing_extra_is_explained(missing: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"taskiq-redis needs the package '{missing}'. Install it: pip install 'taskiq-redis[cli]'\n"
    )


def test_missing_package_for_metrics_is_explained(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "taskiq_redis.contrib.prometheus", raising=False)
    result = run("metrics", "--url", "redis://localhost:1")
    assert result.exit_code == 2
    assert "pip install 'taskiq-redis[prometheus]'" in result.output


@pytest.mark.parametrize("topology", ["single"], indirect=True)
@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        (">&-", 0, ""),
        (">/dev/full", 2, "The output can't be written: "),
        ("| true", 2, ""),
        ("--queue \u6f22", 0, ""),
    ],
    ids=["closed", "full", "broken pipe", "encoding"],
)
def test_output_that_can_not_be_written_is_no_answer(
    topology: Topology, name: str, ending: str, code: int, error: str
) -> None:
    if "full" in ending and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    program = f"{sys.executable} -m taskiq_redis info --url {topology.url} --queue {name}"
    ended = subprocess.run(
        ["bash", "-c", f"{program} {ending}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=environment,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.startswith(error)
    assert "Traceback" not in ended.stderr
    if "queue" in ending:
        assert "\\u6f22" in ended.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_nobody_is_asked_if_the_input_is_closed() -> None:
    ended = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m taskiq_redis purge --url redis://localhost:1 <&-"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == 2
    assert "repeat the command with --yes" in ended.stderr


def test_bug_does_not_look_like_a_no(monkeypatch: Any, capsys: Any) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("taskiq_redis.cli.status.open_broker", fail)
    monkeypatch.setattr(sys, "argv", ["taskiq-redis", "status", "id", "--url", "redis://h"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "a bug" in capsys.readouterr().err


def commands_of(app: typer.Typer) -> list[tuple[str, ...]]:
    """Return the words of all commands and groups."""
    found: list[tuple[str, ...]] = [()]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += [(str(group.name), *each) for each in commands_of(group.typer_instance)]
    return found


@pytest.mark.parametrize("words", commands_of(app))
def test_summaries_of_commands_fit_into_a_line(words: tuple[str, ...]) -> None:
    assert "...\n" not in run(*words, "--help").output.partition("\n")[2]
