"""The generator of the blocking twins: its conversions, its errors and its command line."""

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SCRIPT = CHECKOUT / "scripts" / "unasync.py"
SOURCE = "taskiq_redis/_async/module.py"
TWIN = "taskiq_redis/_sync/module.py"
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


# --- Conversions

CODE = {
    "def": ("async def f(x): ...", "def f(x): ..."),
    "with": (
        "async def f(x):\n    async with x as y, x():\n        pass",
        "def f(x):\n    with x as y, x():\n        pass",
    ),
    "for": (
        "async def f(x):\n    async for y in x:\n        yield y",
        "def f(x):\n    for y in x:\n        yield y",
    ),
    "comprehensions": (
        "async def f(x):\n    return [y async for y in x], {await y() async for z in x for y in z}",
        "def f(x):\n    return [y for y in x], {y() for z in x for y in z}",
    ),
    "await": ("async def f(x):\n    return await x()", "def f(x):\n    return x()"),
    "await of an attribute": (
        "async def f(x):\n    return (await x.y()).z",
        "def f(x):\n    return x.y().z",
    ),
    "await of an item": (
        "async def f(x):\n    return (await x[0]())[1]",
        "def f(x):\n    return x[0]()[1]",
    ),
    "await of an operation": (
        "async def f(x, y):\n    return -await (x or y)()",
        "def f(x, y):\n    return -(x or y)()",
    ),
    "await after a keyword": (
        "async def f(x):\n    return not (await x()).y",
        "def f(x):\n    return not x().y",
    ),
    "await beside words": (
        "async def f(x):\n    return(await x())if(await x())else(await x())",
        "def f(x):\n    return x() if x() else x()",
    ),
    "asend and athrow": (
        "async def f(x):\n    await x.asend(await x.athrow(y))",
        "def f(x):\n    x.send(x.throw(y))",
    ),
    "await in a call": ("async def f(x):\n    x(await x())", "def f(x):\n    x(x())"),
    "await of an await": (
        "async def f(x):\n    return (await (await x()).y()).z",
        "def f(x):\n    return x().y().z",
    ),
    "await over lines": (
        f"""\
        async def f(x):
            {"y" * 50} = (
                await x.{"m" * 30}(1)
            ).{"n" * 30}
        """,
        f"""\
        def f(x):
            {"y" * 50} = x.{"m" * 30}(
                1
            ).{"n" * 30}
        """,
    ),
    "await of a chain over lines": (
        f"""\
        async def f(x):
            return (
                await x.{"m" * 40}()
                .{"m" * 40}()
                .{"n" * 40}()
            )
        """,
        f"""\
        def f(x):
            return (
                x.{"m" * 40}()
                .{"m" * 40}()
                .{"n" * 40}()
            )
        """,
    ),
    "after other characters": (
        'async def f(x):\n    return "äöü€🙂", (await x.ß("é")).y, await x("日本")',
        'def f(x):\n    return "äöü€🙂", x.ß("é").y, x("日本")',
    ),
    "types after other characters": (
        "from typing import Awaitable\n\nÄ = dict[Ö, Awaitable[Ü] | Ä]",
        "Ä = dict[Ö, Ü | Ä]",
    ),
    "dunders": (
        """\
        class A:
            async def __aenter__(self): ...
            async def __aexit__(self, *args): ...
            def __aiter__(self): ...
            async def __anext__(self):
                raise StopAsyncIteration
        """,
        """\
        class A:
            def __enter__(self): ...
            def __exit__(self, *args): ...
            def __iter__(self): ...
            def __next__(self):
                raise StopIteration
        """,
    ),
    "builtins": (
        "async def f(x):\n    return await anext(aiter(x))",
        "def f(x):\n    return next(iter(x))",
    ),
    "close": ("async def f(x):\n    await x.aclose()", "def f(x):\n    x.close()"),
    "contextlib": (
        """\
        from contextlib import aclosing, asynccontextmanager

        @asynccontextmanager
        async def f(x):
            async with aclosing(x):
                yield
        """,
        """\
        from contextlib import closing, contextmanager


        @contextmanager
        def f(x):
            with closing(x):
                yield
        """,
    ),
    "generators": (
        """\
        from collections.abc import AsyncGenerator, AsyncIterator

        a: AsyncGenerator[int, str]
        b: AsyncGenerator[AsyncIterator[int], AsyncIterator[str]]
        """,
        """\
        from collections.abc import Generator, Iterator

        a: Generator[int, str, None]
        b: Generator[Iterator[int], Iterator[str], None]
        """,
    ),
    "generators over lines": (
        f"""\
        from collections.abc import AsyncGenerator

        a: AsyncGenerator[
            {"A" * 50},
            {"B" * 50},
        ]
        """,
        f"""\
        from collections.abc import Generator

        a: Generator[
            {"A" * 50},
            {"B" * 50},
            None,
        ]
        """,
    ),
    "awaited types": (
        """\
        from collections.abc import Awaitable, Callable

        a: Callable[..., Awaitable[int]]
        b: Awaitable[Awaitable[list[str]]] | None
        """,
        """\
        from collections.abc import Callable

        a: Callable[..., int]
        b: list[str] | None
        """,
    ),
    "duplicates of an import": (
        "from collections.abc import AsyncIterator, Iterator\n\nx = AsyncIterator, Iterator",
        "from collections.abc import Iterator\n\nx = Iterator, Iterator",
    ),
    "redis": (
        """\
        from redis.asyncio import Redis
        from redis.asyncio.client import Pipeline
        from redis.asyncio.cluster import ClusterPubSub, RedisCluster
        from redis.commands.core import AsyncScript

        x = AsyncScript, ClusterPubSub, Pipeline, Redis, RedisCluster
        """,
        """\
        from redis import Redis
        from redis.client import Pipeline
        from redis.cluster import ClusterPubSub, RedisCluster
        from redis.commands.core import Script

        x = Script, ClusterPubSub, Pipeline, Redis, RedisCluster
        """,
    ),
    "a split import": (
        """\
        from taskiq import AckableMessage, AsyncBroker, ScheduleSource as Source

        x = AckableMessage, AsyncBroker, Source
        """,
        """\
        from taskiq import AckableMessage

        from taskiq_redis._taskiq import SyncBroker, SyncScheduleSource as Source

        x = AckableMessage, SyncBroker, Source
        """,
    ),
    "an import inside of a function": (
        "def f():\n    from taskiq import AsyncBroker, Context\n\n    return AsyncBroker, Context",
        """\
        def f():
            from taskiq import Context

            from taskiq_redis._taskiq import SyncBroker

            return SyncBroker, Context
        """,
    ),
    "our modules": (
        """\
        from taskiq_redis._async.brokers.base import A
        from taskiq_redis._core.wire import B
        from taskiq_redis._drivers.aio import disconnect
        from taskiq_redis._runtime.aio import Lock, sleep

        x = A, B, Lock, disconnect, sleep
        """,
        """\
        from taskiq_redis._core.wire import B
        from taskiq_redis._drivers.blocking import disconnect
        from taskiq_redis._runtime.blocking import Lock, sleep
        from taskiq_redis._sync.brokers.base import A

        x = A, B, Lock, disconnect, sleep
        """,
    ),
    "an import that stays": (
        "from a import (\n    b,  # why\n    c,\n)\n\nx = b, c",
        "from a import (\n    b,  # why\n    c,\n)\n\nx = b, c",
    ),
    "public classes": (
        """\
        import taskiq_redis
        from taskiq_redis import RedisStreamBroker

        class PubSubBroker(RedisStreamBroker): ...
        class MyPubSubBroker(taskiq_redis.PubSubBroker): ...
        """,
        """\
        import taskiq_redis
        from taskiq_redis import SyncRedisStreamBroker


        class SyncPubSubBroker(SyncRedisStreamBroker): ...


        class MyPubSubBroker(taskiq_redis.SyncPubSubBroker): ...
        """,
    ),
    "a class with Async in its name": (
        "class RedisAsyncResultBackend: ...",
        "class SyncRedisAsyncResultBackend: ...",
    ),
    "an f-string": (
        'def f(x):\n    return f"{x!r} {x:>{x}}"',
        'def f(x):\n    return f"{x!r} {x:>{x}}"',
    ),
    "nothing": ("", ""),
}

PROSE = {
    "class names": (
        '"""See `PubSubBroker`, not MyPubSubBroker, in `taskiq_redis._async.pubsub`."""',
        '"""See `SyncPubSubBroker`, not MyPubSubBroker, in `taskiq_redis._sync.pubsub`."""',
    ),
    "names": (
        '"""Subclasses AsyncBroker; `__aenter__` gives some AsyncIterator."""',
        '"""Subclasses SyncBroker; `__enter__` gives some Iterator."""',
    ),
    "articles": (
        '"""Of an AsyncIterator, an asynchronous one, and a `RedisStreamBroker`."""',
        '"""Of an Iterator, a blocking one, and a `SyncRedisStreamBroker`."""',
    ),
    "the longest phrase": ("# they wait in another event loop", "# they sit in another thread"),
    "whole words": ("# events loop; a prevent loop", "# events loop; a prevent loop"),
    "comments": (
        "#: an asynchronous one\nx = 1  # in the event loop\n\n# second event loop",
        "#: a blocking one\nx = 1  # in the thread\n\n# second thread",
    ),
    "text below an attribute": ('x = 1\n"""For the event loop."""', 'x = 1\n"""For the thread."""'),
    "other characters": ('"""Ünï € an asynchronous 🙂."""', '"""Ünï € a blocking 🙂."""'),
}

TESTS = {
    "marks": (
        """\
        import pytest

        pytestmark = pytest.mark.anyio

        async def test_it(): ...
        """,
        "def test_it(): ...",
    ),
    "a mark of several": (
        "import pytest\n\npytestmark = [pytest.mark.anyio, pytest.mark.slow]",
        "import pytest\n\npytestmark = [pytest.mark.slow]",
    ),
    "a mark of several over lines": (
        """\
        import pytest

        pytestmark = [
            pytest.mark.slow,
            pytest.mark.anyio,
        ]
        """,
        """\
        import pytest

        pytestmark = [
            pytest.mark.slow,
        ]
        """,
    ),
    "helpers": (
        "from tests._aio import Group\nfrom tests._async.helpers import x\n\ny = Group, x",
        "from tests._sync.helpers import x\nfrom tests._threads import Group\n\ny = Group, x",
    ),
}


def check(root: Path, source: str, expected: str, path: str = SOURCE) -> None:
    twin = twin_of(root, source, path)
    assert twin == textwrap.dedent(expected).strip("\n")


@pytest.mark.parametrize(("source", "expected"), CODE.values(), ids=CODE)
def test_code_is_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected)


@pytest.mark.parametrize(("source", "expected"), PROSE.values(), ids=PROSE)
def test_docstrings_and_comments_are_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected)


@pytest.mark.parametrize(("source", "expected"), TESTS.values(), ids=TESTS)
def test_test_modules_are_converted(tmp_path: Path, source: str, expected: str) -> None:
    check(tmp_path, source, expected, TEST_SOURCE)


# --- Errors

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


@pytest.mark.parametrize("literal", ['Literal["a", "b"]', 'typing.Literal["a"] | None'])
def test_literal_types_are_not_refused_as_string_annotations(tmp_path: Path, literal: str) -> None:
    assert twin_of(tmp_path, f"x: {literal}") == f"x: {literal}"


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


def test_forbidden_names_can_be_imported_from_pair(tmp_path: Path) -> None:
    source = "from taskiq_redis._runtime.aio import gather\n\nx = gather()"

    assert twin_of(tmp_path, source) == source.replace("aio", "blocking")


def test_unused_rules_except_pairs_are_errors(tmp_path: Path) -> None:
    rules = unasync.Rules(
        pairs={"taskiq_redis._drivers.aio": "taskiq_redis._drivers.blocking"},
        modules={"redis.asyncio": "redis", "other.asyncio": "other"},
        imports={"a.B": "c.D", "a.C": "c.C"},
        classes=("Used", "Unused"),
        phrases={"event loop": "thread", "coroutine": "call"},
    )
    source = """\
    from a import B
    from redis.asyncio import Redis

    Used(Redis)  # event loop
    """
    write_tree(tmp_path, {SOURCE: source})

    with pytest.raises(unasync.SourceError) as caught:
        unasync.generate(tmp_path, rules)

    messages = [problem.message for problem in caught.value.problems]
    unused = ["other.asyncio", "a.C", "Unused", "coroutine"]
    assert sorted(messages) == sorted(
        f"no source needs the rule {rule!r}; delete it" for rule in unused
    )


# --- The command line

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write a small tree and its twins."""
    write_tree(tmp_path, FILES)
    assert run_lenient(tmp_path)[0] == 0
    return tmp_path


def test_each_source_gets_its_twin(root: Path) -> None:
    files = snapshot(root)

    assert set(files) == set(FILES) | TWINS
    assert files[DEEP_TWIN].decode() == textwrap.dedent("""\
        # Generated from taskiq_redis/_async/deep/module.py by scripts/unasync.py; edit that.

        from collections.abc import Iterator


        # Ünïcödé
        def f(x) -> Iterator[int]:
            for y in x:
                yield y()
        """)
    assert files["taskiq_redis/_sync/__init__.py"].count(b"\n") == 1


def test_second_run_changes_nothing(root: Path) -> None:
    before = snapshot(root)

    assert run_lenient(root) == (0, "")
    assert run_lenient(root, "--check") == (0, "")
    assert snapshot(root) == before


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x = 1\n")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def windows_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def add_beside(path: Path) -> None:
    (path.parent / "orphan.py").write_text("x = 1\n")


def add_folder_beside(path: Path) -> None:
    (path.parent / "more").mkdir()
    (path.parent / "more" / "data.json").write_text("{}")


CHANGES = {
    "appended": (append, DEEP_TWIN, "differs"),
    "truncated": (truncate, DEEP_TWIN, "differs"),
    "other line ends": (windows_lines, DEEP_TWIN, "differs"),
    "missing": (Path.unlink, TEST_TWIN, "missing"),
    "module without source": (add_beside, "taskiq_redis/_sync/deep/orphan.py", "has no source"),
    "file without source": (
        add_folder_beside,
        "taskiq_redis/_sync/deep/more/data.json",
        "has no source",
    ),
}


@pytest.mark.parametrize(("change", "path", "state"), CHANGES.values(), ids=CHANGES)
def test_check_reports_damaged_twin_and_write_repairs_it(
    root: Path, change: Callable[[Path], None], path: str, state: str
) -> None:
    whole = snapshot(root)
    change(root / (path if path in TWINS else DEEP_TWIN))
    damaged = snapshot(root)

    code, output = run_lenient(root, "--check")

    assert code == 1
    assert f"{path}: {state}" in output.splitlines()
    assert snapshot(root) == damaged
    assert run_lenient(root)[0] == 0
    assert snapshot(root) == whole
    assert not (root / "taskiq_redis/_sync/deep/more").exists()


def test_check_shows_diff(root: Path) -> None:
    append(root / DEEP_TWIN)

    assert "-x = 1" in run_lenient(root, "--check")[1].splitlines()


def test_check_reports_changed_source(root: Path) -> None:
    append(root / TEST_SOURCE)

    code, output = run_lenient(root, "--check")

    assert code == 1
    assert f"{TEST_TWIN}: differs" in output
    assert "+x = 1" in output.splitlines()


def test_twin_of_removed_source_is_removed(root: Path) -> None:
    shutil.rmtree(root / "taskiq_redis/_async/deep")

    assert run_lenient(root, "--check")[0] == 1
    assert run_lenient(root)[0] == 0
    assert not (root / "taskiq_redis/_sync/deep").exists()


def test_twins_of_removed_tree_are_reported(root: Path) -> None:
    shutil.rmtree(root / "tests/_async")

    assert run_lenient(root, "--check") == (1, f"{TEST_TWIN}: has no source\n")


def test_caches_are_ignored(root: Path) -> None:
    for tree in ("_async", "_sync"):
        write_tree(root, {f"taskiq_redis/{tree}/__pycache__/module.pyc": "x"})

    assert run_lenient(root, "--check") == (0, "")


@pytest.mark.parametrize("arguments", [(), ("--check",)])
@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("tests/_async/test_bad.py", "x = 1\nimport asyncio\n", ":2: don't import asyncio"),
        ("tests/_async/data.json", "{}", ":1: not a Python file"),
        ("tests/_async/test_bad.py", "x = '\\N{NO SUCH}'", ":1: not valid Python"),
    ],
)
def test_nothing_is_written_if_a_source_is_refused(
    root: Path, path: str, text: str, message: str, arguments: tuple[str, ...]
) -> None:
    append(root / "taskiq_redis/_async/deep/module.py")
    (root / path).write_text(text)
    before = snapshot(root)

    code, output = run_lenient(root, *arguments)

    assert code == 2
    assert f"{path}{message}" in output
    assert snapshot(root) == before


def test_unused_rules_are_errors_by_default(root: Path) -> None:
    code, output = run_script(root, "--check")

    assert code == 2
    assert all("no source needs the rule" in line for line in output.splitlines())


def test_root_without_trees_is_an_error(tmp_path: Path) -> None:
    assert run_lenient(tmp_path)[0] == 2


def test_missing_ruff_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, {SOURCE: ""})
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    assert unasync.main(["--root", str(tmp_path), "--allow-unused-rules"]) == 2
    assert "ruff isn't installed" in capsys.readouterr().err


# The rules of the package don't convert AsyncBroker and AsyncScript.
SAMPLES = {
    f"taskiq_redis/_async/code_{n}.py": pair[0]
    for n, pair in enumerate(CODE.values())
    if "AsyncBroker" not in pair[0] and "AsyncScript" not in pair[0]
}
ODD_SAMPLE = '''\
"""An `AsyncIterator`."""

from taskiq import ScheduleSource, Context


async def f(x: ScheduleSource, y: Context) -> str:
    """Wait in the event loop."""
    z = (await x.ä("ö")).y  # for the event loop
    return f"{z} {y!r:>{10}} {'ü'}" + (await x.é(f"{z}"))
'''


def other_pythons() -> list[str]:
    """Return an interpreter of each other version that pyenv or PATH has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found: list[str | None] = []
    for minor in {10, 11, 12, 13, 14} - {sys.version_info.minor}:
        installed = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3.{minor}"))
        found += [str(path) for path in installed[-1:]] or [shutil.which(f"python3.{minor}")]
    return [path for path in found if path]


def test_other_pythons_generate_the_same_twins(tmp_path: Path) -> None:
    write_tree(tmp_path, {**PAIRS, **FILES, **SAMPLES, SOURCE: ODD_SAMPLE})
    code, output = run_lenient(tmp_path)
    assert code == 0, output
    tried = 0
    for number, python in enumerate(other_pythons()):
        environment = tmp_path.parent / f"{tmp_path.name}-python-{number}"
        command = [python, "-m", "venv", "--without-pip", str(environment)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            continue  # a launcher without its interpreter
        executable = environment / "bin" / "python"
        ruff = executable.with_name("ruff")
        ruff.symlink_to(unasync.find_ruff()[0])

        code, output = run_script(
            tmp_path, "--allow-unused-rules", "--check", python=str(executable)
        )

        assert (code, output) == (0, ""), python
        tried += 1
    if not tried:
        pytest.skip("there is no other Python")


# --- The rules of the package


def test_rules_of_package_have_no_duplicates() -> None:
    rules = unasync.RULES
    entries = [*rules.pairs, *rules.must_be_used()]

    assert len(entries) == len(set(entries))
