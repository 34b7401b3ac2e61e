"""Commands of schedule sources that are cut off, and schedulers that die, on every topology."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any

import pytest
from taskiq.exceptions import ScheduledTaskCancelledError
from taskiq.scheduler.scheduled_task import ScheduledTask

from taskiq_redis._async.schedules import claims
from taskiq_redis._core.schedules import minute_ms
from taskiq_redis.exceptions import TaskIQRedisError
from tests._aio import Running, sleep, together, wait_until
from tests._async.network import FAULTS, Crash, Network, build_network
from tests._async.support import build, opened, redis_of
from tests.faults.proxy import FaultInjector, faulty_network
from tests.servers import LocalCluster, ServerProcess, Topology, close_client, delete_keys, keys_of

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("mechanism", ["keys", "indexed"])
#: ms; lease of the claims of schedulers that crash
SHORT_LEASE = 100
NOW = datetime.now(timezone.utc)
PAST = NOW - timedelta(hours=3)
FUTURE = NOW + timedelta(days=400)

State = dict[str, tuple[ScheduledTask, bool]]


@pytest.fixture
def network(topology: Topology, name: str) -> Iterator[Network]:
    """Proxies in front of the servers, which can cut off commands."""
    with build_network(topology, name) as network:
        yield network


def schedule(schedule_id: str = "id", **when: Any) -> ScheduledTask:
    """Return a schedule, a cron unless `when` says otherwise."""
    return ScheduledTask(
        task_name="task",
        labels={},
        args=[schedule_id],
        kwargs={},
        schedule_id=schedule_id,
        **(when or {"cron": "* * * * *"}),
    )


# --- Writing


@dataclass(frozen=True)
class Operation:
    """An operation whose commands are cut off.

    Args:
        before: schedules that exist before it.
        run: the operation.
        after: schedules that exist after it.
        paused: whether it finds its schedule paused, and leaves it paused.
    """

    before: list[ScheduledTask]
    run: Callable[[Any], Awaitable[Any]]
    after: list[ScheduledTask]
    paused: tuple[bool, bool] = (False, False)

    async def prepare(self, source: Any) -> None:
        """Store the schedules that exist before it."""
        await source.clear(all=True)
        await source.add_schedules(self.before)
        if self.paused[0]:
            await source.pause_schedule("id")

    def expected(self, after: bool) -> State:
        """Return the schedules that exist before or after it, and whether they are paused."""
        schedules = self.after if after else self.before
        return {each.schedule_id: (each, self.paused[after]) for each in schedules}


CRON, ONE_OFF = schedule(), schedule(time=PAST)
SEVERAL = [schedule("a"), schedule("b", interval=5), schedule("c", time=FUTURE)]
OPERATIONS = {
    "add": Operation([], lambda source: source.add_schedule(ONE_OFF), [ONE_OFF]),
    "add several": Operation([], lambda source: source.add_schedules(SEVERAL), SEVERAL),
    "replace": Operation([CRON], lambda source: source.add_schedule(ONE_OFF), [ONE_OFF]),
    "move": Operation(
        [ONE_OFF],
        lambda source: source.add_schedule(schedule(time=FUTURE)),
        [schedule(time=FUTURE)],
    ),
    "replace paused": Operation(
        [CRON], lambda source: source.add_schedule(ONE_OFF), [ONE_OFF], (True, False)
    ),
    "delete": Operation([ONE_OFF], lambda source: source.delete_schedule("id"), []),
    "pause": Operation([CRON], lambda source: source.pause_schedule("id"), [CRON], (False, True)),
    "resume": Operation(
        [ONE_OFF], lambda source: source.resume_schedule("id"), [ONE_OFF], (True, False)
    ),
    "clear": Operation(SEVERAL, lambda source: source.clear(all=True), []),
}


async def state_of(source: Any) -> State:
    """Return all schedules by ID, and whether they are paused; check that due ones are read."""
    state = {
        each.schedule_id: (each, await source.next_run(each) is None)
        for each in await source.get_all_schedules()
    }
    due = {
        schedule_id
        for schedule_id, (each, paused) in state.items()
        if not paused and each.time != FUTURE
    }
    read = {each.schedule_id for each in await source.get_schedules() if each.time != FUTURE}
    assert read == due
    return state


@pytest.mark.full
@BOTH
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_operation_that_is_cut_off_at_any_command_is_retried_or_repeatable(
    network: Network, mechanism: str, operation: Operation
) -> None:
    done = operation.expected(after=True)
    unchanged = operation.expected(after=False)
    async with network.directly(mechanism) as healthy:
        for fault in FAULTS:
            for number in count(1):
                await operation.prepare(healthy)
                async with network.through(mechanism, fault, number) as source:
                    with suppress(TaskIQRedisError):
                        await operation.run(source)
                hit = network.disarm()
                state = await state_of(healthy)
                if fault != "crash" or not hit:
                    assert state == done, (fault, number)
                for schedule_id in {*done, *unchanged}:
                    # Each schedule is as it was before or as it is after.
                    outcomes = [done.get(schedule_id), unchanged.get(schedule_id)]
                    outcomes += between(operation, mechanism, schedule_id)
                    assert state.get(schedule_id) in outcomes, (fault, number)
                await operation.run(healthy)
                assert await state_of(healthy) == done, (fault, number)
                if not hit:
                    break
        await healthy.clear(all=True)
    assert keys_of(network.topology, f"*{network.prefix}*") == []


def between(operation: Operation, mechanism: str, schedule_id: str) -> list[Any]:
    """Return what a crash may leave of a schedule.

    With one key per schedule, one that was paused is replaced first, and resumed afterwards.
    """
    if mechanism == "indexed" or operation.paused != (True, False):
        return []
    return [(each, True) for each in operation.after if each.schedule_id == schedule_id]


@pytest.mark.full
@BOTH
async def test_deletion_may_return_false_only_if_its_reply_was_lost(
    network: Network, mechanism: str
) -> None:
    returned: dict[str, set[bool]] = {fault: set() for fault in FAULTS if fault != "crash"}
    async with network.directly(mechanism) as healthy:
        for fault, results in returned.items():
            for number in count(1):
                await healthy.add_schedule(ONE_OFF)
                async with network.through(mechanism, fault, number) as source:
                    results.add(await source.delete_schedule("id"))
                if not network.disarm():
                    break
    # The first try deleted it, and the second one found none.
    assert returned == {"lose the request": {True}, "lose the reply": {True, False}}


# --- Sending


@pytest.fixture
def claiming(network: Network, monkeypatch: pytest.MonkeyPatch) -> Network:
    """Let a scheduler that has crashed not wait for Redis, and crons be due in one minute."""

    async def sleep_unless_crashed(seconds: float) -> None:
        if network.cut.is_away:
            raise Crash
        await sleep(seconds)

    class FixedTime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW.astimezone(tz)

    monkeypatch.setattr(claims, "sleep", sleep_unless_crashed)
    monkeypatch.setattr(claims, "datetime", FixedTime)
    monkeypatch.setattr(claims, "AWAY_PAUSE", 0.02)
    return network


async def send(source: Any, task: ScheduledTask, sent: list[str], by: str = "") -> None:
    """Send a schedule as taskiq's scheduler does."""
    with suppress(ScheduledTaskCancelledError):
        await source.pre_send(task.model_copy())
        sent.append(by or task.schedule_id)
        await source.post_send(task)


KINDS = {"once": {"time": PAST}, "interval": {"interval": 3600}, "cron": {"cron": "* * * * *"}}


@pytest.mark.full
@BOTH
@pytest.mark.parametrize("when", KINDS.values(), ids=KINDS)
async def test_send_that_is_cut_off_at_any_command_is_completed_once(
    claiming: Network, mechanism: str, when: dict[str, Any]
) -> None:
    async with claiming.directly(mechanism) as healthy:
        for fault in ("lose the request", "lose the reply"):
            for number in count(1):
                await healthy.clear(all=True)
                await healthy.add_schedule(schedule(**when))
                sent: list[str] = []
                begun = time.monotonic()
                async with claiming.through(mechanism, fault, number) as source:
                    await together(partial(send, source, schedule(**when), sent))
                # It doesn't wait for the lease of its own claim.
                assert time.monotonic() - begun < claims.LEASE / 1000 / 2
                await check_that_it_has_fired(claiming, mechanism, when, sent)
                assert sent == ["id"], (fault, number)
                if not claiming.disarm():
                    break


async def check_that_it_has_fired(
    network: Network, mechanism: str, when: dict[str, Any], sent: list[str]
) -> None:
    """Check that no other scheduler sends the schedule now."""
    async with network.directly(mechanism) as other:
        if "interval" in when:
            assert await other.next_run(schedule(**when)) > datetime.now(timezone.utc)
        else:
            before = list(sent)
            await together(partial(send, other, schedule(**when), sent))
            assert sent == before
        assert len(await other.get_all_schedules()) == (0 if "time" in when else 1)


@pytest.mark.full
@BOTH
@pytest.mark.parametrize("when", KINDS.values(), ids=KINDS)
async def test_crash_of_a_scheduler_after_any_command_leaves_the_firing_to_another_one(
    claiming: Network, mechanism: str, when: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE", SHORT_LEASE)
    async with claiming.directly(mechanism) as healthy:
        for number in count(1):
            await healthy.clear(all=True)
            await healthy.add_schedule(schedule(**when))
            sent: list[str] = []
            async with claiming.through(mechanism, "crash", number) as source:
                with suppress(TaskIQRedisError, Crash):
                    await together(partial(send, source, schedule(**when), sent, "crashed"))
            hit = claiming.disarm()
            if "interval" not in when or not sent:
                await together(partial(send, healthy, schedule(**when), sent, "healthy"))
            # It is sent twice only if the crash was between the send and its confirmation.
            allowed = [["healthy"], ["crashed"], ["crashed", "healthy"]]
            assert sent in (allowed if hit else allowed[1:2]), number
            if "interval" not in when:
                await check_that_it_has_fired(claiming, mechanism, when, sent)
            if not hit:
                break
        await healthy.clear(all=True)
        # The lists for 1.2.4 are pruned when schedules are read.
        await healthy.get_schedules()
    # Ended leases don't stay, although a crash may leave one without its schedule.
    await wait_until(partial(has_no_keys, claiming), timeout=5)


async def has_no_keys(network: Network) -> bool:
    return keys_of(network.topology, f"*{network.prefix}*") == []


@pytest.mark.full
@BOTH
async def test_send_waits_while_redis_is_away_after_any_command(
    claiming: Network, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(claims, "sleep", sleep)
    async with claiming.directly(mechanism) as healthy:
        for number in count(1):
            await healthy.add_schedule(ONE_OFF)
            async with claiming.through(mechanism, "go away", number) as source:
                async with Running(partial(send, source, ONE_OFF, sent)):
                    await wait_until(partial(is_away_or_sent, claiming, sent, number))
                    await sleep(0.1)
                    hit = claiming.disarm()
                await source.shutdown()
            assert sent == ["id"] * number
            if not hit:
                break
        assert await healthy.get_all_schedules() == []


async def is_away_or_sent(network: Network, sent: list[str], number: int) -> bool:
    return network.cut.is_away or len(sent) == number


@pytest.mark.full
@BOTH
async def test_schedulers_in_a_bad_network_send_each_one_off_once(
    topology: Topology, name: str, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "AWAY_PAUSE", 0.02)
    options: dict[str, Any] = {"prefix": f"{{{name}}}:app", "socket_timeout": 0.3}
    due = [schedule(str(number), time=PAST) for number in range(30)]
    sent: list[str] = []
    faults = FaultInjector(name, delay=0.6)
    with faulty_network(topology, faults) as proxies:
        if topology.kind == "cluster":
            options["address_remap"] = proxies.remap
        sources = [build(proxies.topology, mechanism, **options) for _ in range(2)]
        for source in sources:
            await source.add_schedules(due)
        faults.active = True

        async def schedule_all(source: Any) -> None:
            for task in due:
                await together(partial(send, source, task, sent))

        await together(*(partial(schedule_all, source) for source in sources))
        faults.active = False
        proxies.wait_for_delayed()
        assert await sources[0].get_all_schedules() == []
        for source in sources:
            await source.shutdown()
    assert sorted(sent) == sorted(task.schedule_id for task in due)


@pytest.mark.full
@BOTH
async def test_late_confirmation_does_not_set_the_last_firing_back(
    claiming: Network, mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE", SHORT_LEASE)
    prefix = claiming.prefix
    async with opened(claiming.topology, mechanism, prefix=prefix) as slow:
        await slow.add_schedule(CRON)

        async def send_slowly() -> None:
            await slow.pre_send(CRON.model_copy())
            # It is paused for longer than its lease, and another scheduler goes on.
            key = slow._keys.fired
            redis_of(claiming.topology).hset(key, "id", minute_ms(NOW) + 1)
            await slow.post_send(CRON)
            assert int(redis_of(claiming.topology).hget(key, "id")) == minute_ms(NOW) + 1

        await together(send_slowly)


# --- Lost scripts and lost data


@pytest.mark.parametrize(
    "kind", [ServerProcess, pytest.param(LocalCluster, marks=pytest.mark.full)]
)
@BOTH
async def test_scripts_may_be_flushed_at_any_time(
    kind: type[ServerProcess | LocalCluster], name: str, mechanism: str
) -> None:
    with kind() as servers:
        with build_network(servers.topology, name) as network:
            async with network.directly(mechanism) as healthy:
                for number in range(1, 8):
                    for fault in ("lose the request", "lose the reply"):
                        async with network.through(mechanism, fault, number) as source:
                            await source.add_schedules(SEVERAL)
                            for task in SEVERAL:
                                await source.pause_schedule(task.schedule_id)
                                network.flush_scripts()
                                await source.resume_schedule(task.schedule_id)
                            assert len(await source.get_schedules()) >= 2
                            network.flush_scripts()
                            await source.delete_schedule("a")
                        network.disarm()
                        assert set(await state_of(healthy)) == {"b", "c"}
                        network.flush_scripts()
                        assert await healthy.clear(all=True) == 2
        close_client(servers.topology.url)


@pytest.mark.full
@BOTH
async def test_schedules_that_are_added_after_flushall_are_seen(name: str, mechanism: str) -> None:
    with ServerProcess() as server:
        async with opened(server.topology, mechanism, prefix=name) as source:
            for _ in range(3):
                await source.add_schedules([*SEVERAL, ONE_OFF])
                found = {task.schedule_id for task in await source.get_schedules()}
                assert {"a", "b", "id"} <= found
                redis_of(server.topology).flushall()
                assert await source.get_schedules() == []
                await source.add_schedule(schedule("later"))
                assert [task.schedule_id for task in await source.get_schedules()] == ["later"]
                assert await source.count() == 1
        close_client(server.topology.url)


@pytest.mark.full
@BOTH
async def test_schedule_that_is_lost_with_all_data_is_not_sent(
    topology: Topology, name: str, mechanism: str
) -> None:
    sent: list[str] = []
    async with opened(topology, mechanism, prefix=f"{{{name}}}:app") as source:
        await source.add_schedules([ONE_OFF, schedule("other", time=PAST)])
        schedules = await source.get_schedules()
        delete_keys(topology, f"*{name}*")
        await source.add_schedule(schedule("other", time=PAST))
        for task in schedules:
            await together(partial(send, source, task, sent))
        assert sent == ["other"]
        assert await source.get_all_schedules() == []
