"""Projects of users whose tests need no Redis, in processes of their own that can't connect."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from scripts.docs_examples import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "testing.md"

NO_NETWORK = """
import socket

def connect(self, address):
    if not isinstance(address, str):  # a Unix socket
        open({record!r}, "a").write(f"{{address}}\\n")
        raise ConnectionRefusedError(address)

socket.socket.connect = socket.socket.connect_ex = connect
"""


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse connections in all programs that the test starts, and fail if there was one."""
    record, folder = tmp_path / "connections", tmp_path / "path"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NO_NETWORK.format(record=str(record)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    yield
    assert not record.exists()


def section(title: str) -> str:
    return DOCS.read_text().split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.full
@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh here")
@pytest.mark.parametrize(
    ("title", "blocks"),
    [("How do I test a Django project?", 7), ("How do I test a Flask application?", 3)],
)
def test_project_of_documentation_runs_without_redis(
    title: str, blocks: int, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(section(title))
    (tmp_path / "run").mkdir()
    assert Page(page, tmp_path / "run").run() == blocks


CONFTEST = """
import pytest

pytest_plugins = ["taskiq_redis.testing.pytest"]
"""

TESTS = """
import pytest
from taskiq_redis import SyncListQueueBroker

broker = SyncListQueueBroker("redis://127.0.0.1:1")

@broker.task
def one() -> int:
    return 1

class TestWithBroker:
    @pytest.fixture
    def taskiq_broker(self):
        return broker

    def test_sent(self, sent_tasks):
        one.kiq()
        assert len(sent_tasks) == 1
        assert sent_tasks.run() == 1

    def test_run(self, run_tasks):
        one.kiq()
        assert run_tasks.run() == 0

def test_restored(swap_broker):
    assert "kick" not in vars(broker)
    sent = swap_broker(broker, run=True)
    one.kiq()
    assert len(sent) == 1

def test_undefined(sent_tasks):
    pass

def test_connections_are_refused():
    import sitecustomize
    assert hasattr(sitecustomize, "connect")
"""


def test_fixtures_of_plugin(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text(dedent(CONFTEST))
    (folder / "test_it.py").write_text(dedent(TESTS))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert "4 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "Define a fixture `taskiq_broker`" in done.stdout
