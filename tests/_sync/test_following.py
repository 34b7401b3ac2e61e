# Generated from tests/_async/test_following.py by scripts/unasync.py; edit that.

"""The progress of tasks can be followed until their results are stored."""

from functools import partial
from typing import Any

import pytest
from taskiq.depends.progress_tracker import TaskProgress
from taskiq.exceptions import ResultGetError, TaskiqResultTimeoutError

from taskiq_redis._core.keys import progress_key
from taskiq_redis._sync import result_waiters
from taskiq_redis.exceptions import ResultDecodeError
from tests._sync.support import build, channels_of, opened, redis_of, result
from tests._threads import TIMEOUT, Running, wait_until
from tests.servers import Topology

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

    def _follow(self) -> None:
        for progress in self._backend.follow(*self._task_id, timeout=TIMEOUT):
            self.seen.append(progress.meta)
        self.ended = True

    def __enter__(self) -> Any:
        self._running.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.__exit__(*error)

    def has_seen(self, *metas: Any) -> bool:
        """Return whether exactly these values were reported."""
        return self.seen == list(metas)

    def has_ended(self) -> bool:
        """Return whether the result is there."""
        return self.ended


def is_subscribed(backend: Any, task_id: str) -> bool:
    """Return whether a backend has subscribed to what a follower needs."""
    key = backend._task_name(task_id)
    return {key, progress_key(key)} <= channels_of(backend)


@pytest.mark.smoke
def test_follower_is_notified(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would not look by itself within the time limit.
    monkeypatch.setattr(result_waiters.ResultListener, "interval", 10 * TIMEOUT)
    with (
        opened(topology, "results", prefix_str="p") as backend,
        opened(topology, "results", prefix_str="p") as worker,
    ):
        with Follower(backend, name) as follower:
            wait_until(partial(is_subscribed, backend, name))
            for number in (1, 2):
                # The same progress again is no change.
                for _ in range(2):
                    worker.set_progress(name, half(number))
                wait_until(partial(follower.has_seen, *range(1, number + 1)))
            worker.set_result(name, result(3))
            wait_until(follower.has_ended)
        assert follower.seen == [1, 2]
        assert backend._listener.get()._waiters == {}
        # The second one need not wait.
        assert [each.meta for each in backend.follow(name)] == [2]


def test_progress_stored_without_notification_is_found(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    client = redis_of(topology)
    with opened(topology, "results") as backend:
        for number in (1, 2):
            backend.set_progress(f"{name}:{number}", half(number))
        backend.set_result(f"{name}:result", result(3))
        with Follower(backend, name) as follower:
            wait_until(partial(is_subscribed, backend, name))
            for number in (1, 2):
                # Workers of 1.2.4 store progress in this way.
                client.set(f"{name}__progress", client.get(f"{name}:{number}__progress"))
                wait_until(partial(follower.has_seen, *range(1, number + 1)))
            client.set(name, client.get(f"{name}:result"))
            wait_until(follower.has_ended)


@pytest.mark.full
@pytest.mark.parametrize("rule", ["-subscribe", "-publish", "-@scripting"])
def test_follower_polls_without_notifications(
    topology: Topology, name: str, rule: str, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_waiters, "CHECK_INTERVAL", 0.05)
    with opened(topology, "results", **user("+@all", "~*", "&*", rule)) as backend:
        with Follower(backend, name) as follower:
            for number in (1, 2):
                backend.set_progress(name, half(number))
                wait_until(partial(follower.has_seen, *range(1, number + 1)))
            backend.set_result(name, result(3))
            wait_until(follower.has_ended)


def test_slow_follower_gets_the_latest_progress(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_progress(name, half(0))
        progress = backend.follow(name, timeout=TIMEOUT)
        try:
            assert next(progress).meta == 0
            for number in range(1, 50):
                backend.set_progress(name, half(number))
            assert next(progress).meta == 49
            backend.set_progress(name, half(50))
            backend.set_result(name, result(3))
            assert [each.meta for each in progress] == [50]
        finally:
            progress.close()


def test_following_ends_if_the_result_was_read_and_deleted(topology: Topology, name: str) -> None:
    with (
        opened(topology, "results", keep_results=False) as backend,
        opened(topology, "results", keep_results=False) as worker,
    ):
        progress = backend.follow(name, timeout=TIMEOUT)
        worker.set_progress(name, half(1))
        assert next(progress).meta == 1
        wait_until(partial(is_subscribed, backend, name))
        # While its caller works with the progress.
        worker.set_result(name, result(3))
        assert worker.get_result(name).return_value == 3
        assert [each.meta for each in progress] == []


def test_following_ends_at_the_timeout(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        backend.set_progress(name, half(1))
        progress = backend.follow(name, timeout=0.05)
        assert next(progress).meta == 1
        with pytest.raises(TaskiqResultTimeoutError) as caught:
            next(progress)
        assert caught.value.timeout == 0.05


def test_follower_that_stops_is_not_notified_any_more(topology: Topology, name: str) -> None:
    with opened(topology, "results") as backend:
        progress = backend.follow(name, timeout=TIMEOUT)
        backend.set_progress(name, half(1))
        assert next(progress).meta == 1
        # It waits for the next one, which comes later.
        backend.set_progress(name, half(2))
        assert next(progress).meta == 2
        assert backend._listener.get()._waiters != {}
        progress.close()
        assert backend._listener.get()._waiters == {}


@ON_SINGLE
def test_followed_progress_does_not_make_others_read(
    topology: Topology, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(topology, "results") as backend:
        listener = backend._listener.get()
        checked: list[Any] = []

        def ignore(key: str, published: bool) -> None:
            pass

        def record(keys: Any) -> bool:
            checked.append(set(keys))
            return False

        monkeypatch.setattr(listener, "_any_exists", record)
        listener.add(["result"], print)
        listener.add(["result", "result__progress"], ignore, checked=False)
        listener._check()
        listener.remove(["result"], print)
        listener._check()
        listener.remove(["result", "result__progress"], ignore)
    assert {"result"} in checked
    assert all(keys == {"result"} for keys in checked)


def test_sent_task_can_be_followed(topology: Topology, name: str) -> None:
    with opened(topology, "results", prefix_str=name) as results:
        broker = build(topology, "stream", queue_name=name).with_result_backend(results)
        sent = broker.register_task(half, task_name="half").kiq(1)
        results.set_progress(sent.task_id, half(1))
        with Follower(sent) as follower:
            wait_until(partial(follower.has_seen, 1))
            results.set_result(sent.task_id, result(3))
            wait_until(follower.has_ended)
        key = results._task_name(sent.task_id)
        redis_of(topology).set(progress_key(key), b"no progress")
        with pytest.raises(ResultGetError) as caught:
            next(sent.follow())
        assert isinstance(caught.value.__cause__, ResultDecodeError)
        redis_of(topology).delete(key, progress_key(key))
        with pytest.raises(TaskiqResultTimeoutError):
            next(sent.follow(timeout=0.05))
        broker.shutdown()
