"""Pieces of async code, and what the generator makes of them."""

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
