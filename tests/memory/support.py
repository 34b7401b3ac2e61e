"""A fixture that isolates tests and forbids connections, and middlewares that record their hooks."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from taskiq import AsyncBroker, TaskiqMessage, TaskiqMiddleware, TaskiqResult

from taskiq_redis._taskiq.portal import stop_portal

#: an address where no server listens
URL = "redis://127.0.0.1:1"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Give each test its own task registry and portal, and fail one that opens a connection.

    Every module here imports this.
    """
    monkeypatch.setattr(AsyncBroker, "global_task_registry", {})
    opened: list[Any] = []

    def refuse(name: str) -> Callable[..., Any]:
        def connect(_self: socket.socket, address: Any) -> Any:
            opened.append(address)
            raise ConnectionRefusedError(f"{name} to {address!r}")

        return connect

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    yield opened
    stop_portal()
    assert opened == []


def is_thread(thread: threading.Thread) -> bool:
    return threading.current_thread() is thread


class PlainHooks(TaskiqMiddleware):
    """Records its hooks, which are sync."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def startup(self) -> None:
        self.events.append("startup")

    def shutdown(self) -> None:
        self.events.append("shutdown")

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append("pre_send")
        message.labels["sent"] = "yes"
        return message

    def post_send(self, message: TaskiqMessage) -> None:
        self.events.append("post_send")

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append("pre_execute")
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.events.append("post_execute")

    def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        self.events.append("on_error")

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.events.append("post_save")


class AsyncHooks(TaskiqMiddleware):
    """Records its hooks, which are async."""

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    async def startup(self) -> None:
        self.events.append("startup")

    async def shutdown(self) -> None:
        self.events.append("shutdown")

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append("pre_send")
        message.labels["sent"] = "yes"
        return message

    async def post_send(self, message: TaskiqMessage) -> None:
        self.events.append("post_send")

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        self.events.append("pre_execute")
        return message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.events.append("post_execute")

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        self.events.append("on_error")

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        self.events.append("post_save")
