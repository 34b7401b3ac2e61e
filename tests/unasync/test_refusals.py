"""Sources that the generator refuses, with the line and the reason."""

from pathlib import Path

import pytest

from tests.unasync.support import (
    PAIRS,
    RULES,
    SOURCE,
    TEST_SOURCE,
    problems_of,
    twin_of,
    unasync,
    write_tree,
)

REFUSED = {
    "syntax": ("x = 1\nx = (", 2, "not valid Python"),
    "future": ("from __future__ import annotations", 1, "don't import __future__"),
    "asyncio": ("x = 1\nimport asyncio", 2, "don't import asyncio"),
    "from asyncio": ("from asyncio.locks import Lock", 1, "don't import asyncio.locks"),
    "anyio": ("import anyio.abc as x", 1, "don't import anyio.abc"),
    "threading": ("def f():\n    import threading", 2, "don't import threading"),
    "trio": ("import trio", 1, "don't import trio"),
    "uvloop": ("import uvloop", 1, "don't import uvloop"),
    "inspect": ("import inspect", 1, "don't import inspect"),
    "relative": ("from . import x", 1, "write an absolute import"),
    "star": ("from redis.asyncio import *", 1, "import *"),
    "a module": ("import redis.asyncio as r", 1, "from redis.asyncio import ..."),
    "a submodule": ("import redis.asyncio.client", 1, "from redis.asyncio.client import ..."),
    "a module from its package": (
        "from taskiq_redis._runtime import aio",
        1,
        "from taskiq_redis._runtime.aio import ...",
    ),
    "a comment in an import": (
        "from taskiq import (\n    AsyncBroker,  # why\n)",
        1,
        "comment would be lost",
    ),
    "string annotation": ('def f(x: "int"): ...', 1, "type in a string"),
    "string return type": ('def f() -> list["int"]: ...', 1, "type in a string"),
    "string in a variable's type": ('x: dict[str, "int"]', 1, "type in a string"),
    "string in a cast": ('y = 1\nx = typing.cast("int", y)', 2, "type in a string"),
    "string in a bound": ('T = TypeVar("T", bound="A")', 1, "type in a string"),
    "create_task": ("x.create_task(y)", 1, "create_task has no blocking counterpart"),
    "gather": ("gather(x, y)", 1, "gather has no blocking counterpart"),
    "import of shield": ("from a import shield", 1, "shield has no blocking counterpart"),
    "iscoroutinefunction": (
        "iscoroutinefunction(x)",
        1,
        "iscoroutinefunction has no blocking counterpart",
    ),
    "type: ignore": ("x = 1\ny = 2  # type: ignore[x]", 2, "other ignores"),
    "pyright: ignore": ("y = 2  # pyright:ignore", 1, "other ignores"),
    "bare Awaitable": ("def f(x: Awaitable): ...", 1, "'Awaitable' would be left"),
    "isinstance": ("x = isinstance(x, abc.Coroutine)", 1, "'Coroutine' would be left"),
    "Coroutine": ("x: Coroutine[Any, Any, int]", 1, "'Coroutine' would be left"),
    "Awaitable of two": ("x: Awaitable[int, str]", 1, "takes one type argument"),
    "AsyncGenerator of one": ("x: AsyncGenerator[int]", 1, "takes two types"),
    "AsyncGenerator of three": ("x: AsyncGenerator[int, int, int]", 1, "takes two types"),
    "an awaitable class": ("class A(Awaitable[int]): ...", 1, "can't be a base class"),
    "await of no call": ("async def f(x):\n    await x", 2, "call and await in one expression"),
    "call made before it is awaited": (
        "async def f(x, y):\n    call = x()\n    return await call if y else None",
        3,
        "call and await in one expression",
    ),
    "renamed Awaitable": ("from typing import Awaitable as A", 1, "'Awaitable' would be left"),
    "two statements in a line to drop": (
        "pytestmark = pytest.mark.anyio; x = 1",
        1,
        "other statement would be lost",
    ),
    "two parameters into one": ("async def f(iter, aiter): ...", 1, "duplicate argument 'iter'"),
    "two arguments into one": ("x = f(close=1, aclose=2)", 1, "repeated"),
    "a method and an attribute into one": (
        "class A:\n    close = 1\n    async def aclose(self): ...",
        3,
        "close and aclose would both be called close",
    ),
    "two into one": (
        "class A:\n    def close(self): ...\n    async def aclose(self): ...",
        3,
        "close and aclose would both be called close",
    ),
    "word in a docstring": (
        '"""One.\n\nIt is awaited.\n"""',
        3,
        "'awaited' would be left",
    ),
    "word in a comment": ("x = 1\n\n# a Coroutine\n", 3, "'Coroutine' would be left"),
    "words over lines": ("x = (\n    'the event'\n)\n'''x Event\nLoop'''", 4, "would be left"),
    "word in a string": ("x = [\n    'asyncio',\n]", 2, "'asyncio' would be left"),
    "word in an identifier": ("def f():\n    my_async_thing = 1", 2, "'my_async_thing'"),
    "anyio in an identifier": ("anyio_thing = 1", 1, "'anyio_thing'"),
    "aio": ("x = 'use aioredis'", 1, "'aioredis'"),
    "aio in an identifier": ("from_aio = 1", 1, "'aio'"),
    "public class in a string": ("x = 'use PubSubBroker'", 1, "'PubSubBroker' would be left"),
    "await in an f-string": ('async def f(x):\n    return f"{await x()}"', 2, "'await'"),
    "class in an f-string": ('x = f"{PubSubBroker}"', 1, "'PubSubBroker' would be left"),
    "rename in an f-string": ('x = f"{x.aclose}"', 1, "'aclose' would be left"),
    "an unlisted place of a name": ("from a import AsyncKicker", 1, "'AsyncKicker'"),
    "an article": ("# for an event loop", 1, "'an' doesn't fit 'thread'"),
    "a capital": ("# Event loop", 1, "'Event loop' would be left"),
    "a phrase over lines of a docstring": ('"""An event\n  loop."""', 1, "must be on one line"),
    "a phrase over lines of a comment": ("# its event\n# loop", 1, "must be on one line"),
    "a decorator": ("@pytest.mark.anyio\nasync def f(): ...", 1, "'anyio' would be left"),
    "a mark without a comma": (
        "pytestmark = [pytest.mark.slow, pytest.mark.anyio]",
        1,
        "'anyio' would be left",
    ),
    "a fixture": ("def f(anyio_backend): ...", 1, "'anyio_backend' would be left"),
    "an exit stack": ("from contextlib import AsyncExitStack", 1, "'AsyncExitStack' would be"),
    "__all__": ('__all__ = ["PubSubBroker"]', 1, "'PubSubBroker' would be left"),
    "an empty block": (
        "if x:\n    from collections.abc import Awaitable",
        2,
        "wouldn't be valid Python",
    ),
}


@pytest.mark.parametrize(("source", "line", "message"), REFUSED.values(), ids=REFUSED)
def test_unconvertible_source_is_refused(
    tmp_path: Path, source: str, line: int, message: str
) -> None:
    problems = problems_of(tmp_path, source)

    assert [item for item in problems if item[0] == line and message in item[1]], problems


@pytest.mark.parametrize("name", ["anyio", "asyncio", "threading"])
def test_concurrency_imports_are_refused_in_tests(tmp_path: Path, name: str) -> None:
    assert problems_of(tmp_path, f"import {name}", TEST_SOURCE)[0][0] == 1


def test_leftover_is_reported_with_line_of_source(tmp_path: Path) -> None:
    source = """\
    from taskiq import AckableMessage, AsyncBroker, Context
    import redis
    class A:
        async def f(self, x): return (await x()).y
        async def g(self, x): return "coroutine"
    """

    assert problems_of(tmp_path, source) == [
        (5, f"'coroutine' would be left in the twin; {unasync.REWORD}")
    ]


def test_all_problems_of_all_files_are_reported(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {SOURCE: "import asyncio\nimport trio", "taskiq_redis/_async/other.py": "x = ("},
    )

    with pytest.raises(unasync.SourceError) as caught:
        unasync.generate(tmp_path, RULES, strict_rules=False)

    places = [(Path(item.path).name, item.line) for item in caught.value.problems]
    assert {("module.py", 1), ("module.py", 2), ("other.py", 1)} <= set(places)


@pytest.mark.parametrize(
    ("module", "twin", "source"),
    [
        ("taskiq_redis._drivers.aio", "taskiq_redis/_drivers/blocking.py", SOURCE),
        ("taskiq_redis._runtime.aio", "taskiq_redis/_runtime/blocking.py", SOURCE),
        ("tests._aio", "tests/_threads.py", TEST_SOURCE),
    ],
)
def test_names_of_a_pair_must_exist_in_both_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, twin: str, source: str
) -> None:
    names = "import time\nfrom a import b\nsleep: int = 1\ndef f():\n    hidden = 1\nclass C: ..."
    monkeypatch.setitem(PAIRS, twin, names)
    good = f"from {module} import C, b, f, sleep, time\n\nx = C, b, f, sleep, time"
    bad = f"import os\nfrom {module} import C, hidden"

    assert "import C, b, f, sleep, time" in twin_of(tmp_path, good, source)
    problems = problems_of(tmp_path, bad, source)

    assert [item for item in problems if item[0] == 2 and "has no hidden" in item[1]]


def test_missing_blocking_module_of_pair_is_an_error(tmp_path: Path) -> None:
    problems = problems_of(tmp_path, "from taskiq_redis._drivers.aio import disconnect")

    assert problems == [(1, "taskiq_redis/_drivers/blocking.py doesn't exist; write it")]
