"""The progress of tasks can be followed until their results are stored."""

from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import ResultGetError, TaskiqResultTimeoutError

from taskiq_redis._async import result_waiters
from taskiq_redis._core.keys import progress_key
from taskiq_redis.exceptions import ResultDecodeError
from tests._aio import TIMEOUT, Running, wait_until
from tests._async.support import (
    build,
    channels_of,
    opened,
    redis_of,
    result,
)
from tests.servers import Topology

pytestmark = pytest.mark.anyio

ON_SINGLE = pytest.mark.parametrize("topology", ["single"], indirect=True)


def half(meta: Any) -> TaskProgress[Any]:
    """Return a progress."""
    return TaskProgress(state="working", meta=meta)


class Follower:
    """Follows a task in the background.

    Args:
        backend: a result backend, or a sent task.
        task_id: ID of the task.
    """

    def __init__(self, backend: Any, *task_id: str) -> None:
        self._backend = backend
        self._task_id = task_id
        self.seen: list[Any] = []
        self.ended = False
        self._running = Running(self._follow)

    async def _follow(self) -> None:
        async for progress in self._backend.follow(*self._task_id, timeout=TIMEOUT):
            self.seen.append(progress.meta)
        self.ended = True

    async def __aenter__(self) -> Any:
        await self._running.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(*error)

    async def has_seen(self, *metas: Any) -> bool:
        """Return whether exactly these values were reported."""
        return self.seen == list(metas)

    async def has_ended(self) -> bool:
        """Return whether the result is there."""
        return self.ended


async def is_subscribed(backend: Any, task_id: str) -> bool:
    """Return whether a backend has subscribed to what a follower needs."""
    key = backend._task_name(task_id)
    return {key, progress_key(key)} <= channels_of(backend)


@pytest.mark.smoke
async def test_follower_is_notified(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would not look by itself within the time limit.
    monkeypatch.setattr(result_waiters.ResultListener, "interval", 10 * TIMEOUT)
    async with (
        opened(topology, "results", prefix_str="p") as backend,
        opened(topology, "results", prefix_str="p") as worker,
    ):
        async with Follower(backend, name) as follower:
            await wait_until(partial(is_subscribed, backend, name))
            for number in (1, 2):
                # The same progress again is no change.
                for _ in range(2):
                    await worker.set_progress(name, half(number))
                await wait_until(partial(follower.has_seen, *range(1, number + 1)))
            await worker.set_result(name, result(3))
            await wait_until(follower.has_ended)
        assert follower.seen == [1, 2]
        assert backend._listener.get()._waiters == {}
        # The second one need not wait.
        assert [each.meta async for each in backend.follow(name)] == [2]


async def test_progress_stored_without_notification_is_found(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    client = redis_of(topology)
    async with opened(topology, "results") as backend:
        for number in (1, 2):
            await backend.set_progress(f"{name}:{number}", half(number))
        await backend.set_result(f"{name}:result", result(3))
        async with Follower(backend, name) as follower:
            await wait_until(partial(is_subscribed, backend, name))
            for number in (1, 2):
                # Workers of 1.2.4 store progress in this way.
                client.set(f"{name}__progress", client.get(f"{name}:{number}__progress"))
                await wait_until(partial(follower.has_seen, *range(1, number + 1)))
            client.set(name, client.get(f"{name}:result"))
            await wait_until(follower.has_ended)


@pytest.mark.full
@pytest.mark.parametrize("rule", ["-subscribe", "-publish", "-@scripting"])
async def test_follower_polls_without_notifications(
    topology: Topology, name: str, rule: str, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    async with opened(topology, "results", **user("+@all", "~*", "&*", rule)) as backend:
        async with Follower(backend, name) as follower:
            for number in (1, 2):
                await backend.set_progress(name, half(number))
                await wait_until(partial(follower.has_seen, *range(1, number + 1)))
            await backend.set_result(name, result(3))
            await wait_until(follower.has_ended)


async def test_slow_follower_gets_the_latest_progress(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        await backend.set_progress(name, half(0))
        progress = backend.follow(name, timeout=TIMEOUT)
        try:
            assert (await anext(progress)).meta == 0
            for number in range(1, 50):
                await backend.set_progress(name, half(number))
            assert (await anext(progress)).meta == 49
            await backend.set_progress(name, half(50))
            await backend.set_result(name, result(3))
            assert [each.meta async for each in progress] == [50]
        finally:
            await progress.aclose()


async def test_following_ends_if_the_result_was_read_and_deleted(
    topology: Topology, name: str
) -> None:
    async with (
        opened(topology, "results", keep_results=False) as backend,
        opened(topology, "results", keep_results=False) as worker,
    ):
        progress = backend.follow(name, timeout=TIMEOUT)
        await worker.set_progress(name, half(1))
        assert (await anext(progress)).meta == 1
        await wait_until(partial(is_subscribed, backend, name))
        # While its caller works with the progress.
        await worker.set_result(name, result(3))
        assert (await worker.get_result(name)).return_value == 3
        assert [each.meta async for each in progress] == []


async def test_following_ends_at_the_timeout(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        await backend.set_progress(name, half(1))
        progress = backend.follow(name, timeout=0.05)
        assert (await anext(progress)).meta == 1
        with pytest.raises(TaskiqResultTimeoutError) as caught:
            await anext(progress)
        assert caught.value.timeout == 0.05


async def test_follower_that_stops_is_not_notified_any_more(topology: Topology, name: str) -> None:
    async with opened(topology, "results") as backend:
        progress = backend.follow(name, timeout=TIMEOUT)
        await backend.set_progress(name, half(1))
        assert (await anext(progress)).meta == 1
        # It waits for the next one, which comes later.
        await backend.set_progress(name, half(2))
        assert (await anext(progress)).meta == 2
        assert backend._listener.get()._waiters != {}
        await progress.aclose()
        assert backend._listener.get()._waiters == {}


@ON_SINGLE
async def test_followed_progress_does_not_make_others_read(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(topology, "results") as backend:
        listener = backend._listener.get()
        checked: list[Any] = []

        def ignore(key: str, published: bool) -> None:
            pass

        async def record(keys: Any) -> bool:
            checked.append(set(keys))
            return False

        monkeypatch.setattr(listener, "_any_exists", record)
        await listener.add(["result"], print)
        await listener.add(["result", "result__progress"], ignore, checked=False)
        await listener._check()
        listener.remove(["result"], print)
        await listener._check()
        listener.remove(["result", "result__progress"], ignore)
    assert {"result"} in checked
    assert all(keys == {"result"} for keys in checked)


async def test_sent_task_can_be_followed(topology: Topology, name: str) -> None:
    async with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name).with_result_backend(results)
        sent = await broker.register_task(half, task_name="half").kiq(1)
        await results.set_progress(sent.task_id, half(1))
        async with Follower(sent) as follower:
            await wait_until(partial(follower.has_seen, 1))
            await results.set_result(sent.task_id, result(3))
            await wait_until(follower.has_ended)
        key = results._task_name(sent.task_id)
        redis_of(topology).set(progress_key(key), b"no progress")
        with pytest.raises(ResultGetError) as caught:
            await anext(sent.follow())
        assert isinstance(caught.value.__cause__, ResultDecodeError)
        redis_of(topology).delete(key, progress_key(key))
        with pytest.raises(TaskiqResultTimeoutError):
            await anext(sent.follow(timeout=0.05))
        await broker.shutdown()
