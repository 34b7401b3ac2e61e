"""In which context, and on which event loop, the hooks of middlewares and event handlers run."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from taskiq import TaskiqEvents, TaskiqMessage, TaskiqMiddleware
from taskiq.exceptions import SendTaskError
from taskiq.state import TaskiqState

from taskiq_redis import ListQueueBroker, to_sync
from taskiq_redis._core.calls import Call
from taskiq_redis._taskiq.async_kicker import TaskKicker
from taskiq_redis._taskiq.portal import THREAD_NAME
from tests._threads import TIMEOUT
from tests.blocking.support import (
    AsyncMemoryBroker,
    MemoryBroker,
    isolated,  # noqa: F401
)
from tests.forks import in_child

span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")

BOTH = pytest.mark.parametrize("side", ["async", "blocking"])


class Spans(TaskiqMiddleware):
    """Sets a variable before sending and resets it afterwards, as tracing does."""

    def __init__(self, events: list[Any] | None = None, name: str = "span") -> None:
        super().__init__()
        self.events = [] if events is None else events
        self.name = name
        self.tokens: dict[str, contextvars.Token[str]] = {}

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append(("pre", self.name, message.args[0], span.get()))
        if message.args[0] == "refused":
            raise ValueError("refused")
        self.tokens[message.task_id] = span.set(f"{self.name} {message.args[0]}")
        return message

    def post_send(self, message: TaskiqMessage) -> None:
        self.events.append(("post", self.name, message.args[0], span.get()))
        if message.args[0] == "broken":
            raise KeyError("broken")
        span.reset(self.tokens.pop(message.task_id))


class AsyncSpans(Spans):
    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:  # type: ignore[override]
        with anyio.fail_after(TIMEOUT):
            await anyio.sleep(0.001)
        changed = super().pre_send(message)
        await asyncio.sleep(0)
        return changed

    async def post_send(self, message: TaskiqMessage) -> None:  # type: ignore[override]
        await asyncio.wait_for(asyncio.sleep(0), TIMEOUT)
        super().post_send(message)


class MixedSpans(Spans):
    async def post_send(self, message: TaskiqMessage) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().post_send(message)


KINDS = pytest.mark.parametrize("kind", [Spans, AsyncSpans, MixedSpans])


class Sender:
    """Sends calls of a task by a kicker of either side."""

    def __init__(self, side: str, *middlewares: TaskiqMiddleware) -> None:
        self.side = side
        self.broker: Any = MemoryBroker() if side == "blocking" else AsyncMemoryBroker()
        self.broker.add_middlewares(*middlewares)

    def __call__(self, method: str, *arguments: Any) -> Any:
        """Call a method of a kicker, in the context of the caller."""
        if self.side == "blocking":
            return getattr(self.broker.kicker("task"), method)(*arguments)

        async def call() -> tuple[Any, str]:
            sent = await getattr(TaskKicker("task", self.broker, {}), method)(*arguments)
            return sent, span.get()

        sent, found = asyncio.run(call())
        assert found == "none"
        return sent

    def many(self, *numbers: Any) -> Any:
        return self("kiq_many", [Call(number) for number in numbers])

    @property
    def sent(self) -> list[Any]:
        return [self.broker.formatter.loads(each.message).args[0] for each in self.broker.sent]


@BOTH
@KINDS
def test_each_message_of_kiq_many_has_a_context_of_its_own(side: str, kind: type[Spans]) -> None:
    outer, inner = kind(name="outer"), kind(name="inner")
    inner.events = outer.events
    sender = Sender(side, outer, inner)
    assert len(sender.many(1, 2)) == 2
    assert sender.sent == [1, 2]
    before = [
        event
        for number in (1, 2)
        for event in (
            ("pre", "outer", number, "none"),
            ("pre", "inner", number, f"outer {number}"),
        )
    ]
    after = [
        event
        for number in (2, 1)
        for event in (
            ("post", "inner", number, f"inner {number}"),
            ("post", "outer", number, f"outer {number}"),
        )
    ]
    assert outer.events == before + after
    assert outer.tokens == inner.tokens == {}
    assert span.get() == "none"


@BOTH
@KINDS
def test_refused_call_leaves_the_hooks_of_the_others_paired(side: str, kind: type[Spans]) -> None:
    spans = kind()
    sender = Sender(side, spans)
    with pytest.raises(ValueError, match="refused"):
        sender.many(1, 2, "refused", 3)
    assert sender.sent == [1, 2]
    hooks = [(when, number) for when, _, number, _ in spans.events]
    assert hooks == [("pre", 1), ("pre", 2), ("pre", "refused"), ("post", 2), ("post", 1)]
    assert spans.tokens == {}


@BOTH
@KINDS
def test_error_in_post_send_leaves_the_hooks_of_the_others_paired(
    side: str, kind: type[Spans]
) -> None:
    spans = kind()
    sender = Sender(side, spans)
    with pytest.raises(KeyError, match="broken"):
        sender.many(1, "broken", 2)
    assert sender.sent == [1, "broken", 2]
    assert [number for when, _, number, _ in spans.events if when == "post"] == [2, "broken", 1]


@BOTH
@pytest.mark.parametrize("method", ["kiq", "kiq_many"])
def test_error_of_the_formatter_is_raised_as_send_task_error(side: str, method: str) -> None:
    sender = Sender(side)
    arguments = [Call(1), Call(object())] if method == "kiq_many" else object()
    with pytest.raises(SendTaskError) as caught:
        sender(method, arguments)
    assert caught.value.__cause__ is not None
    assert sender.sent == []


@BOTH
@pytest.mark.parametrize("method", ["kiq", "kiq_many"])
def test_formatter_sees_what_pre_send_has_set(side: str, method: str) -> None:
    sender, seen = Sender(side, Spans()), list[str]()
    formatter = sender.broker.formatter

    class Formatter:
        def dumps(self, message: TaskiqMessage) -> Any:
            seen.append(span.get())
            return formatter.dumps(message)

    sender.broker.formatter = Formatter()
    sender(method, [Call(1)] if method == "kiq_many" else 1)
    assert seen == ["span 1"]


@KINDS
def test_hooks_of_one_send_share_a_context(kind: type[Spans]) -> None:
    spans = kind()
    sender = Sender("blocking", spans)
    token = span.set("caller's")
    for number in range(3):
        sender("kiq", number)
    assert span.get() == "caller's"
    span.reset(token)
    assert sender.sent == [0, 1, 2]
    assert [value for when, *_, value in spans.events if when == "pre"] == ["caller's"] * 3
    assert spans.tokens == {}


def test_exception_is_raised_in_the_hook_that_awaits() -> None:
    events: list[str] = []

    class Failing(TaskiqMiddleware):
        async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.01)
            except asyncio.TimeoutError:
                events.append(span.get())
                raise
            return message

    token = span.set("caller's")
    with pytest.raises(asyncio.TimeoutError):
        Sender("blocking", Failing())("kiq", 1)
    span.reset(token)
    assert events == ["caller's"]


def test_startup_and_shutdown_share_a_context() -> None:
    local_broker = MemoryBroker()
    tokens: list[contextvars.Token[str]] = []

    @local_broker.on_event(TaskiqEvents.CLIENT_STARTUP)
    async def start(_: TaskiqState) -> None:
        await asyncio.sleep(0)
        tokens.append(span.set("started"))

    @local_broker.on_event(TaskiqEvents.CLIENT_SHUTDOWN)
    def stop(_: TaskiqState) -> None:
        assert span.get() == "changed"
        span.reset(tokens.pop())
        assert span.get() == "none"

    def use() -> None:
        with local_broker:
            # As in the block of an async broker.
            assert span.get() == "started"
            span.set("changed")

    contextvars.copy_context().run(use)
    assert tokens == []


class Client(TaskiqMiddleware):
    """Holds something that only the event loop that made it may use."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: object = None
        self.events: list[Any] = []

    async def startup(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.events.append("startup")

    async def shutdown(self) -> None:
        self.events.append("shutdown")

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append(threading.current_thread().name)
        return message

    async def post_send(self, message: TaskiqMessage) -> None:
        self.events.append(asyncio.get_running_loop() is self.loop)


class Queue(ListQueueBroker):
    async def kick(self, message: Any) -> None:
        """Send nothing."""


def blocking_twin(source: Queue, **options: Any) -> Any:
    twin: Any = to_sync(source, **options)
    twin.kick = twin.kick_many = lambda _: None
    return twin


@contextmanager
def on_a_loop(source: Queue) -> Iterator[Any]:
    """Start and stop a broker on the event loop of another thread."""
    with anyio.from_thread.start_blocking_portal(name="theirs") as portal:
        portal.call(source.startup)
        yield portal
        portal.call(source.shutdown)


def test_twin_does_not_start_or_stop_what_it_shares() -> None:
    client = Client()
    source = Queue("redis://localhost:1").with_middlewares(client)
    with blocking_twin(source), blocking_twin(source, middlewares=source.middlewares):
        assert client.events == []
    assert client.events == []


def test_hooks_of_a_shared_middleware_run_on_the_loop_of_its_broker() -> None:
    client = Client()
    source = Queue("redis://localhost:1").with_middlewares(client)
    twin = blocking_twin(source)
    with on_a_loop(source) as portal, twin:
        twin.kicker("task").kiq(1)
        twin.kicker("task").kiq_many([Call(2)])
        assert client.events == ["startup", "theirs", True, "theirs", True]
        client.events.clear()
        # On the thread of the loop itself, the twin can't wait for the loop.
        portal.call(twin.kicker("task").kiq, 3)
        assert client.events == ["theirs", False]
        client.events.clear()
    assert client.events == ["shutdown"]
    twin.kicker("task").kiq(4)
    assert client.events == ["shutdown", threading.current_thread().name, False]


def test_hooks_of_a_broker_that_only_sends_have_its_loop() -> None:
    client = Client()
    source = Queue("redis://localhost:1").with_middlewares(client)
    twin = blocking_twin(source)

    async def main() -> None:
        client.loop = asyncio.get_running_loop()
        await TaskKicker("task", source, {}).kiq()
        await asyncio.to_thread(twin.kicker("task").kiq)

    asyncio.run(main())
    assert client.events.count(True) == 2
    assert in_child(twin.kicker("task").kiq) == 0


def test_hook_fails_when_its_loop_stops() -> None:
    class Endless(Client):
        async def post_send(self, message: TaskiqMessage) -> None:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(3600)

    source = Queue("redis://localhost:1").with_middlewares(Endless())
    loop, started = asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        loop.run_until_complete(source.startup())
        loop.call_soon(started.set)
        loop.run_forever()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(TIMEOUT)
    with pytest.raises(RuntimeError, match="event loop of the async broker stopped"):
        blocking_twin(source).kicker("task").kiq()
    thread.join()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(source.shutdown())
    loop.close()


def test_sync_hooks_of_a_shared_middleware_run_on_any_thread() -> None:
    spans = Spans()
    source = Queue("redis://localhost:1").with_middlewares(spans)
    with on_a_loop(source):
        blocking_twin(source).kicker("task").kiq(1)
    assert [when for when, *_ in spans.events] == ["pre", "post"]


def test_middlewares_of_a_twin_belong_to_it() -> None:
    shared, own, later = Client(), Client(), Client()
    source = Queue("redis://localhost:1").with_middlewares(shared)
    twin = blocking_twin(source, middlewares=[own])
    assert (shared.broker, own.broker) == (source, twin)
    with on_a_loop(source), twin:
        twin.kicker("task").kiq(1)
    assert shared.events == ["startup", "shutdown"]
    assert own.events == ["startup", threading.current_thread().name, True, "shutdown"]
    added = blocking_twin(source)
    added.add_middlewares(later)
    assert source.middlewares == [shared]
    assert added.middlewares == [shared, later]


def test_twin_says_which_middlewares_it_does_not_start(caplog: pytest.LogCaptureFixture) -> None:
    source = Queue("redis://localhost:1").with_middlewares(Client(), Spans())
    blocking_twin(source)
    (said,) = caplog.messages
    assert "hooks of Client, but not its `startup`" in said
    assert "`to_sync(broker, middlewares=[...])`" in said
    caplog.clear()
    blocking_twin(source, middlewares=source.middlewares)
    blocking_twin(source, middlewares=[Client()])
    with on_a_loop(source):
        blocking_twin(source)
    assert caplog.messages == []


def test_portal_runs_the_hooks_of_the_twins_own_middlewares() -> None:
    class Own(TaskiqMiddleware):
        async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            message.labels["thread"] = threading.current_thread().name
            return message

    local_broker = MemoryBroker().with_middlewares(Own())
    local_broker.kicker("task").kiq()
    assert local_broker.sent[0].labels["thread"] == THREAD_NAME
