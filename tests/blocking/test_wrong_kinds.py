"""Async objects where blocking ones belong, and the reverse, are refused with the remedy."""

import asyncio
import inspect
import subprocess
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from taskiq import TaskiqScheduler
from taskiq.cli.scheduler.args import SchedulerArgs
from taskiq.cli.scheduler.run import run_scheduler
from taskiq.warnings import TaskiqDeprecationWarning

import taskiq_redis
from taskiq_redis import (
    ListQueueBroker,
    ListRedisScheduleSource,
    RedisAsyncResultBackend,
    RedisScheduleSource,
    SyncKicker,
    SyncListQueueBroker,
    SyncListRedisScheduleSource,
    SyncRedisAsyncResultBackend,
    SyncRedisScheduleSource,
    to_sync,
)
from taskiq_redis._core import notices
from taskiq_redis.exceptions import NoBlockingTwinError
from tests._async.support import message
from tests.blocking.support import isolated
from tests.servers import Topology

__all__ = ["isolated"]

URL = "redis://127.0.0.1:1"


def work() -> None:
    """Do what a task does."""


def async_backend() -> Any:
    return RedisAsyncResultBackend[Any](URL)


def blocking_backend() -> Any:
    return SyncRedisAsyncResultBackend[Any](URL)


def async_task() -> Any:
    return ListQueueBroker(URL).register_task(work, task_name="work")


def blocking_task() -> Any:
    return SyncListQueueBroker(URL).register_task(work, task_name="work")


def with_attribute(broker: Any, result_backend: Any) -> Any:
    broker.result_backend = result_backend
    return broker.startup()


NOON = datetime(2050, 1, 1, 12, tzinfo=timezone.utc)

#: a wrong use, and what its error says
WRONG: dict[str, tuple[Any, str]] = {
    "backend of async broker": (
        lambda: ListQueueBroker(URL).with_result_backend(blocking_backend()),
        "blocking result backend. Give the async one here, such as RedisAsyncResultBackend; to_sync",
    ),
    "backend attribute of async broker": (
        lambda: with_attribute(ListQueueBroker(URL), blocking_backend()),
        "blocking result backend. Give the async one here",
    ),
    "backend of blocking broker": (
        lambda: SyncListQueueBroker(URL).with_result_backend(async_backend()),
        "or the twin of yours: to_sync(result_backend)",
    ),
    "backend attribute of blocking broker": (
        lambda: with_attribute(SyncListQueueBroker(URL), async_backend()),
        "or the twin of yours: to_sync(result_backend)",
    ),
    "broker of async kicker": (
        lambda: async_task().kicker().with_broker(SyncListQueueBroker(URL)),
        "blocking broker. Give the async one here, such as ListQueueBroker; to_sync(broker) makes",
    ),
    "broker of blocking kicker": (
        lambda: blocking_task().kicker().with_broker(ListQueueBroker(URL)),
        "Give its twin: to_sync(broker)",
    ),
    "cron of async task": (
        lambda: async_task().schedule_by_cron(SyncRedisScheduleSource(URL), "* * * * *"),
        "blocking schedule source. Give the async one here, such as RedisScheduleSource",
    ),
    "interval of async task": (
        lambda: async_task().schedule_by_interval(SyncRedisScheduleSource(URL), 5),
        "blocking schedule source. Give the async one here",
    ),
    "time of async task": (
        lambda: async_task().schedule_by_time(SyncRedisScheduleSource(URL), NOON),
        "blocking schedule source. Give the async one here",
    ),
    "cron of blocking task": (
        lambda: blocking_task().schedule_by_cron(RedisScheduleSource(URL), "* * * * *"),
        "or the twin of yours: to_sync(source)",
    ),
    "migration to async source": (
        lambda: ListRedisScheduleSource(URL).with_migrate_from(
            SyncRedisScheduleSource(URL)  # type: ignore[arg-type]
        ),
        "SyncRedisScheduleSource is not a source for ListRedisScheduleSource. Give an async source",
    ),
    "migration to blocking source": (
        lambda: SyncListRedisScheduleSource(URL).with_migrate_from(
            RedisScheduleSource(URL)  # type: ignore[arg-type]
        ),
        "to a blocking one its twin: to_sync(source)",
    ),
    "scheduler with blocking broker": (
        lambda: TaskiqScheduler(SyncListQueueBroker(URL), []).startup(),  # type: ignore[arg-type]
        "Give them a ListQueueBroker, such as the one that to_sync(...) gets.",
    ),
    "scheduler with blocking source": (
        lambda: run_scheduler(
            SchedulerArgs(
                scheduler=TaskiqScheduler(
                    ListQueueBroker(URL),
                    [SyncRedisScheduleSource(URL)],  # type: ignore[list-item]
                ),
                modules=[],
                configure_logging=False,
            )
        ),
        "Give them a RedisScheduleSource, such as the one that to_sync(...) gets.",
    ),
}


@pytest.mark.parametrize("use", WRONG)
def test_object_of_the_other_kind_is_refused_with_the_remedy(use: str) -> None:
    call, text = WRONG[use]

    async def run() -> None:
        made = call()
        if inspect.isawaitable(made):
            await made

    with pytest.raises(TypeError) as error:
        asyncio.run(run())
    assert text in str(error.value)


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_deprecated_parameter_refuses_a_backend_of_the_other_kind(twin: str) -> None:
    broker: Any = getattr(taskiq_redis, f"{twin}ListQueueBroker")
    backend = async_backend() if twin else blocking_backend()
    with (
        pytest.warns(TaskiqDeprecationWarning),
        pytest.raises(TypeError, match=r"to_sync\("),
    ):
        broker(URL, result_backend=backend)


def test_twin_of_a_twin_is_refused() -> None:
    twin: Any = SyncListQueueBroker(URL)
    with pytest.raises(NoBlockingTwinError, match="It is blocking itself: use it as it is"):
        to_sync(twin)


def test_worker_refuses_a_twin_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from taskiq_redis import ListQueueBroker, to_sync\n"
        f"broker = to_sync(ListQueueBroker({URL!r}))\n"
    )
    program = (
        "from taskiq.cli.worker.args import WorkerArgs\n"
        "from taskiq.cli.worker.run import start_listen\n"
        "start_listen(WorkerArgs(broker='app:broker', modules=[]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "TypeError: taskiq's workers and schedulers need async objects, and SyncListQueueBroker is "
        "a blocking class. Give them a ListQueueBroker, such as the one that to_sync(...) gets."
    )


def test_class_of_a_twin_is_known_to_everyone_else() -> None:
    twin: Any = to_sync(ListQueueBroker(URL))
    assert twin.__class__ is SyncListQueueBroker
    assert [isinstance(twin, kind) for kind in (SyncListQueueBroker, ListQueueBroker)] == [
        True,
        False,
    ]

    class Own(SyncListQueueBroker):
        pass

    twin.__class__ = Own
    assert type(twin) is Own
    assert isinstance(SyncKicker("t", twin, {}).broker, Own)


@pytest.mark.anyio
@pytest.mark.parametrize("topology", ["single"], indirect=True)
async def test_blocking_call_on_the_thread_of_a_loop_is_logged_once(
    topology: Topology,
    name: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notices, "_seen_in_loop", False)
    with SyncListQueueBroker(topology.url, queue_name=name) as broker:
        monkeypatch.setattr(notices, "_seen_in_loop", False)
        caplog.clear()
        await asyncio.to_thread(partial(broker.kick, message(b"a")))
        assert caplog.messages == []
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        broker.kick(message(b"a"))
        broker.kick(message(b"a"))
        (text,) = caplog.messages
        assert text == (
            f"A blocking call of taskiq_redis in test_wrong_kinds.py, line {line}, runs on the "
            "thread of an event loop, and stops all its tasks meanwhile. Use the async class "
            "there, or `asyncio.to_thread`. Further calls are not logged."
        )
