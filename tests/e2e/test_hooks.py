"""Middlewares, events, state, dependencies and the context, in a real worker."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from taskiq import TaskiqEvents

from taskiq_redis import to_sync
from taskiq_redis._taskiq.portal import stop_portal
from tests.e2e.apps import hooks
from tests.e2e.conftest import Clients, Start, mostly_on_one_server, on_one_server
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import client_of
from tests.waiting import wait_until

APP = "tests.e2e.apps.hooks:broker"
#: values that the middlewares add to each result
ADDED = ["async post_execute", "sync post_execute"]


@pytest.fixture
def hooked(setting: Setting, connect: Callable[[Any], Clients]) -> Clients:
    """Return an async and a blocking client with the same middlewares."""
    return connect(setting.broker().with_middlewares(*hooks.broker.middlewares))


@on_one_server
def test_worker_events_run_once_per_process_and_share_state(
    worker: Start, records: Records
) -> None:
    assert worker(app=APP, processes=2).stop() == 0
    assert records.count("worker startup") == records.count("worker shutdown", number=42) == 2
    assert records.count("client startup") == records.count("client shutdown") == 0
    for hook in ("sync startup", "async startup", "sync shutdown", "async shutdown"):
        assert records.count(hook) == 2


def test_client_events_run_and_share_state(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[str] = []
    monkeypatch.setattr(hooks, "record", lambda what, **details: here.append(what))

    async def start_and_stop() -> None:
        async with hooks.broker:
            here.append("between")

    asyncio.run(start_and_stop())
    begin, end = ["sync startup", "async startup"], ["sync shutdown", "async shutdown"]
    events = ["set_state", "client startup"], ["client shutdown"]
    assert here == [*events[0], *begin, "between", *events[1], *end]

    here.clear()
    twin = to_sync(hooks.broker)
    # The twin shares the state, but not the event handlers, and starts none of the middlewares,
    # which belong to the async broker.
    twin.add_event_handler(
        TaskiqEvents.CLIENT_STARTUP, lambda state: here.append(str(state.number))
    )
    with twin:
        here.append("between")
    stop_portal()
    assert here == ["41", "between"]

    here.clear()
    with to_sync(hooks.broker, middlewares=[hooks.SyncHooks(), hooks.AsyncHooks()]):
        here.append("between")
    stop_portal()
    assert here == [*begin, "between", *end]


@pytest.mark.parametrize("mechanism", ["stream", "list", "pubsub"])
@on_one_server
def test_middlewares_run_in_order_on_both_sides(
    worker: Start, hooked: Clients, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[str] = []
    monkeypatch.setattr(hooks, "record", lambda what, task: here.append(what))
    worker(app=APP)
    for client in hooked:
        here.clear()
        sent = client.send(hooks.labels)
        result = client.wait(sent)
        assert here == ["sync pre_send", "async pre_send", "async post_send", "sync post_send"]
        assert result.return_value == [
            {
                "colour": "red",
                "weight": 1.5,
                "count": 3,
                "fresh": True,
                "sent by": "sync, async",
                "executed by": "sync, async",
            },
            *ADDED,
        ]
        # The result is available before the last hook has run.
        wait_until(lambda: records.count("sync post_save", task=sent.task_id))  # noqa: B023
        there = [line["what"] for line in records if line.get("task") == sent.task_id]
        assert there == [
            "sync pre_execute",
            "async pre_execute",
            "async post_execute",
            "sync post_execute",
            "async post_save",
            "sync post_save",
        ]
        sent = client.send(hooks.fail)
        assert client.wait(sent).is_err
        for kind in ("sync", "async"):
            assert records.count(f"{kind} on_error", task=sent.task_id, error="as it should") == 1


@mostly_on_one_server
def test_dependencies_are_resolved_and_closed(
    worker: Start, hooked: Clients, records: Records
) -> None:
    worker(app=APP)
    for client in hooked:
        name = "tests.e2e.apps.hooks:depends"
        assert client.call(hooks.depends, 10) == [50, 42, name, *ADDED]
        assert client.call(hooks.depends_in_thread) == [3, *ADDED]
        assert str(client.wait(client.send(hooks.depends, 0)).error) == "as it should"
    for generator in ("three", "four"):
        opened = 6 if generator == "three" else 4
        assert records.count(f"{generator} opened") == opened
        assert records.count(f"{generator} closed") == opened
    # Dependencies receive the exception of the task.
    assert records.count("four failed", error="as it should") == 2


@mostly_on_one_server
@pytest.mark.parametrize("mechanism", ["stream", "list"])
def test_tasks_can_be_requeued_and_rejected(
    setting: Setting, worker: Start, hooked: Clients, records: Records
) -> None:
    program = worker(app=APP)
    program.expected.add("TaskRejectedError")
    for client in hooked:
        sent = client.send(hooks.requeue, 3)
        assert client.wait(sent).return_value == [3, *ADDED]
        runs = records.of("requeue", task=sent.task_id)
        assert [run["done"] for run in runs] == [0, 1, 2, 3]
        # taskiq can't rebuild this error from its stored form.
        assert "TaskRejectedError" in str(client.wait(client.send(hooks.reject)).error)
    if setting.mechanism == "stream":
        redis = client_of(setting.topology)
        wait_until(lambda: redis.xpending(setting.name, "taskiq")["pending"] == 0)
