"""Run the generator of the blocking twins on small trees."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "scripts" / "unasync.py"
SOURCE = "taskiq_redis/_async/module.py"
TEST_SOURCE = "tests/_async/test_module.py"
TEST_TWIN = "tests/_sync/test_module.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unasync", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["unasync"] = module
    spec.loader.exec_module(module)
    return module


unasync = load()

# Own rules, so that these tests don't depend on the rules of the package.
RULES = unasync.Rules(
    pairs={
        "taskiq_redis._drivers.aio": "taskiq_redis._drivers.blocking",
        "taskiq_redis._runtime.aio": "taskiq_redis._runtime.blocking",
        "tests._aio": "tests._threads",
    },
    modules={
        "redis.asyncio": "redis",
        "taskiq_redis._async": "taskiq_redis._sync",
        "tests._async": "tests._sync",
    },
    imports={
        "redis.asyncio.cluster.ClusterPubSub": "redis.cluster.ClusterPubSub",
        "redis.commands.core.AsyncScript": "redis.commands.core.Script",
        "taskiq.AsyncBroker": "taskiq_redis._taskiq.SyncBroker",
        "taskiq.ScheduleSource": "taskiq_redis._taskiq.SyncScheduleSource",
        "taskiq.abc.broker.AsyncBroker": "taskiq_redis._taskiq.SyncBroker",
    },
    classes=("PubSubBroker", "RedisAsyncResultBackend", "RedisStreamBroker"),
    phrases={
        "an asynchronous": "a blocking",
        "asynchronous": "blocking",
        "event loop": "thread",
        "wait in another event loop": "sit in another thread",
    },
)

# The blocking modules of the hand-written pairs.
PAIRS = {
    "taskiq_redis/_drivers/blocking.py": "disconnect = None",
    "taskiq_redis/_runtime/blocking.py": "Lock = gather = sleep = None",
    "tests/_threads.py": "Group = None",
}


def write_tree(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")


def twin_of(root: Path, text: str, source: str = SOURCE) -> str:
    """Return the twin of one source, without its header."""
    write_tree(root, {**PAIRS, source: text})
    twins = unasync.generate(root, RULES, strict_rules=False)
    (generated,) = twins.values()
    header, _, body = generated.partition("\n")
    assert header == f"# Generated from {source} by scripts/unasync.py; edit that."
    assert isinstance(body, str)
    return body.strip("\n")


def problems_of(root: Path, text: str, source: str = SOURCE) -> list[tuple[int, str]]:
    write_tree(root, {source: text})
    with pytest.raises(unasync.SourceError) as caught:
        unasync.generate(root, RULES, strict_rules=False)
    assert {problem.path for problem in caught.value.problems} == {source}
    return [(problem.line, problem.message) for problem in caught.value.problems]


def snapshot(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def run_script(root: Path, *arguments: str, python: str = sys.executable) -> tuple[int, str]:
    command = [python, "-X", "utf8=0", str(SCRIPT), "--root", str(root), *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        command, capture_output=True, env=environment, encoding="utf-8", check=False
    )
    assert "Traceback" not in result.stderr
    return result.returncode, result.stdout + result.stderr


def run_lenient(root: Path, *arguments: str) -> tuple[int, str]:
    return run_script(root, "--allow-unused-rules", *arguments)


FILES = {
    "taskiq_redis/_async/__init__.py": "",
    "taskiq_redis/_async/deep/module.py": """\
        from collections.abc import AsyncIterator

        # Ünïcödé
        async def f(x) -> AsyncIterator[int]:
            async for y in x:
                yield await y()
        """,
    TEST_SOURCE: "async def test_it(): ...\n",
}


TWINS = {
    "taskiq_redis/_sync/__init__.py",
    "taskiq_redis/_sync/deep/module.py",
    TEST_TWIN,
}


DEEP_TWIN = "taskiq_redis/_sync/deep/module.py"
