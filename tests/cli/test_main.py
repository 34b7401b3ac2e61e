"""The program: how it starts, and what it needs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taskiq_redis import __version__
from taskiq_redis.cli import main
from tests.cli.support import run
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
