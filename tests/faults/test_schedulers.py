"""Real schedulers, several at once, killed, paused and restarted: everything fires once."""

import time
from collections.abc import Callable
from itertools import pairwise
from signal import SIGKILL, SIGTERM
from statistics import median

import pytest
from taskiq.scheduler.scheduled_task import ScheduledTask

from tests.e2e.conftest import mostly_on_one_server, slow
from tests.faults.schedulers import (
    IN_FLIGHT,
    INTERVAL,
    Outcome,
    Schedulers,
    avoid_end_of_minute,
    due,
    plan,
    task,
)
from tests.servers import KINDS
from tests.waiting import wait_until

pytestmark = pytest.mark.full

Measure = Callable[[str, object], None]

#: s; longest period of an interval of 3 s: the next firing would come at 6
ONE_PERIOD = 5.5
#: s; longest period if a claim of a scheduler that was killed or paused has to expire
AFTER_FAULT = 30.0
#: s; generous limit of lateness
PUNCTUAL = 15.0

#: on each topology, and with the other kind of source on one
on_all_sources = pytest.mark.parametrize(
    ("topology", "schedulers"),
    [*((kind, "indexed") for kind in KINDS), ("single", "keys")],
    indirect=True,
)
on_one_of_each_source = pytest.mark.parametrize(
    ("topology", "schedulers"), [("single", "indexed"), ("single", "keys")], indirect=True
)


def run(
    schedulers: Schedulers,
    number: int,
    seconds: float,
    disturb: Callable[[float], None] = time.sleep,
    gap: float = ONE_PERIOD,
) -> Outcome:
    """Run schedulers on schedules of all kinds, and return the outcome.

    Args:
        schedulers: where to run them.
        number: number of schedulers.
        seconds: duration.
        disturb: called with the duration while they run.
        gap: s; longest allowed period of an interval of 3 s.
    """
    avoid_end_of_minute()
    # The schedulers need some time to start.
    schedules = plan(seconds + 3, one_offs=50 if seconds < 60 else 150)
    schedulers.add(*schedules)
    schedulers.run(number)
    began = time.time()
    disturb(seconds)
    ended = schedulers.settle(schedules)
    schedulers.check_running()
    return schedulers.outcome(schedules, began, ended, gap)


def check_once(outcome: Outcome) -> None:
    """Fail unless everything fired once."""
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.twice == []
    for name, (fired, periods) in outcome.intervals.items():
        # The first firing begins the first period; a busy machine may lag a bit.
        assert 0.85 * periods - 1 <= fired <= periods + 1.5, name


def check_bounded(schedulers: Schedulers, outcome: Outcome) -> None:
    """Fail if anything was lost, or sent twice without a fault in between."""
    assert (outcome.lost, outcome.early) == ([], [])
    assert outcome.unexplained(schedulers.faults) == []
    assert len(outcome.twice) <= IN_FLIGHT


@pytest.mark.parametrize(
    ("topology", "schedulers", "number"),
    [
        ("single", "indexed", 2),
        ("single", "indexed", 5),
        ("cluster", "indexed", 2),
        ("sentinel", "indexed", 2),
        ("single", "keys", 2),
    ],
    indirect=["topology", "schedulers"],
)
def test_several_schedulers_send_each_schedule_once(
    schedulers: Schedulers, number: int, record_property: Measure
) -> None:
    outcome = run(schedulers, number, 18)
    record_property("several schedulers", str(outcome))
    check_once(outcome)


@slow
@on_all_sources
@pytest.mark.parametrize("number", [2, 5])
def test_several_schedulers_send_each_schedule_once_for_minutes(
    schedulers: Schedulers, number: int, record_property: Measure
) -> None:
    outcome = run(schedulers, number, 130)
    record_property("several schedulers", str(outcome))
    check_once(outcome)


def kill_now_and_then(schedulers: Schedulers, seconds: float) -> None:
    """Kill the oldest scheduler every 8 to 10 s, and start a new one."""
    end = time.monotonic() + seconds
    for number in range(int(seconds // 8)):
        begin = time.monotonic()
        if begin > end:
            break
        time.sleep(6 + number % 3)
        schedulers.kill_and_restart()
        time.sleep(max(0.0, begin + 8 + number % 3 - time.monotonic()))


@pytest.mark.parametrize(
    ("topology", "schedulers", "number", "seconds"),
    [
        ("single", "indexed", 2, 18),
        ("single", "keys", 2, 18),
        *(
            pytest.param(kind, "indexed", number, 130, marks=slow)
            for kind in KINDS
            for number in (2, 5)
        ),
        pytest.param("single", "keys", 2, 130, marks=slow),
    ],
    indirect=["topology", "schedulers"],
)
def test_killed_schedulers_lose_nothing_and_repeat_only_what_was_being_sent(
    schedulers: Schedulers, number: int, seconds: float, record_property: Measure
) -> None:
    schedulers.setting.extras["pause"] = 0.02
    outcome = run(
        schedulers,
        number,
        seconds,
        lambda seconds: kill_now_and_then(schedulers, seconds),
        AFTER_FAULT,
    )
    record_property("killed schedulers", str(outcome))
    check_bounded(schedulers, outcome)


@pytest.mark.parametrize(
    ("topology", "schedulers", "number", "seconds"),
    [
        ("single", "indexed", 2, 22),
        *(
            pytest.param(kind, "indexed", number, 130, marks=slow)
            for kind in KINDS
            for number in (2, 5)
        ),
        pytest.param("single", "keys", 2, 130, marks=slow),
    ],
    indirect=["topology", "schedulers"],
)
def test_paused_scheduler_loses_nothing_and_repeats_only_what_was_being_sent(
    schedulers: Schedulers, number: int, seconds: float, record_property: Measure
) -> None:
    def pause(seconds: float) -> None:
        time.sleep(3)
        schedulers.pause(16)
        time.sleep(seconds - 3 - 16)

    outcome = run(schedulers, number, seconds, pause, AFTER_FAULT)
    record_property("paused scheduler", str(outcome))
    check_bounded(schedulers, outcome)


@pytest.mark.parametrize(
    ("topology", "schedulers", "restarts"),
    [
        ("single", "indexed", 3),
        ("single", "keys", 3),
        *(pytest.param(kind, "indexed", 7, marks=slow) for kind in KINDS),
    ],
    indirect=["topology", "schedulers"],
)
def test_restarted_scheduler_keeps_its_intervals(
    schedulers: Schedulers, restarts: int, record_property: Measure
) -> None:
    avoid_end_of_minute()
    schedules = plan(0, one_offs=0)
    schedulers.add(*schedules)
    schedulers.run()
    began = time.time()
    downtimes = []
    for number in range(restarts):
        # Long after the confirmation of one firing, and before the next one.
        schedulers.wait_for_more("interval-0", 2)
        time.sleep(0.5)
        killed = time.time()
        schedulers.kill_and_restart(how=SIGTERM if number % 2 else SIGKILL)
        downtimes.append((killed, time.time()))
    schedulers.wait_for_more("interval-0", 2)
    outcome = schedulers.outcome(schedules, began, time.time(), AFTER_FAULT)
    times = schedulers.times("interval-0")
    periods = [
        after - before
        for before, after in pairwise(times)
        # It may have taken long until the scheduler was back.
        if not any(before < killed < after <= back + 1 for killed, back in downtimes)
    ]
    shown = ", ".join(f"{period:.2f}" for period in periods)
    record_property("periods", f"{shown} s; {outcome}")
    # Neither short periods, nor two crons in a minute.
    assert (outcome.lost, outcome.twice) == ([], [])
    assert all(period >= INTERVAL - 0.5 for period in periods)
    assert median(periods) <= INTERVAL + 0.5
    # It is due once, not at each start.
    assert len(schedulers.times("hourly")) == 1


@pytest.mark.parametrize(
    ("topology", "schedulers"),
    [
        ("single", "indexed"),
        ("single", "keys"),
        pytest.param("cluster", "indexed", marks=slow),
        pytest.param("sentinel", "indexed", marks=slow),
    ],
    indirect=True,
)
def test_scheduler_killed_among_many_due_loses_none_and_repeats_few(
    schedulers: Schedulers, record_property: Measure
) -> None:
    number = 2000
    together = task("once", after=-2)
    schedules = [
        together.model_copy(update={"schedule_id": f"once-{index}"}) for index in range(number)
    ]
    schedulers.add(*schedules)
    program = schedulers.launch(pause=0.01, dies_after=number // 2)
    assert program.process.wait(120) == -SIGKILL, program.log
    before = sum(map(len, schedulers.firings().values()))
    schedulers.run()
    schedulers.wait_for(each.schedule_id for each in schedules)
    wait_until(lambda: not schedulers.left(), what="the end of all schedules")
    fired = schedulers.firings()
    twice = sum(len(firings) - 1 for firings in fired.values())
    record_property("killed after", f"{before} of {number}, {twice} sent twice")
    assert fired.keys() == {each.schedule_id for each in schedules}
    assert twice <= IN_FLIGHT


def bad_schedules() -> list[ScheduledTask]:
    """Return schedules that end the loop of taskiq's scheduler, or that it can't parse."""
    every_minute = {"cron": "* * * * *"}
    return [
        task("bad-step", cron="*/0 * * * *"),
        task("bad-words", cron="every minute or so"),
        task("bad-offset", **every_minute).model_copy(update={"cron_offset": "../etc/passwd"}),
        task("bad-zone", **every_minute).model_copy(update={"cron_offset": "Nowhere/Town"}),
        task("bad-interval", interval=10**15),
    ]


@on_all_sources
def test_bad_schedules_are_skipped_and_logged_once(schedulers: Schedulers) -> None:
    good = [
        task("cron", cron="* * * * *"),
        task("interval-0", interval=1),
        *(task(f"once-{number}", after=number) for number in range(1, 8, 2)),
    ]
    bad = bad_schedules()
    for schedule in bad:
        schedulers.write_raw(schedule)
    schedulers.write_raw(task("bad-bytes", interval=1), b"\x80\x04no pickle")
    schedulers.add(*good)
    schedulers.run(1, "--update-interval=1")
    (program,) = schedulers.programs
    schedulers.wait_for(each.schedule_id for each in good)
    schedulers.wait_for_more("interval-0", 4)
    # Another scheduler has written this one meanwhile.
    schedulers.write_raw(task("bad-later", cron="*/0 * * * *"))
    schedulers.wait_for_more("interval-0", 4)
    schedulers.check_running()
    for name in (*(each.schedule_id for each in bad), "bad-bytes", "bad-later"):
        lines = [
            line for line in program.log.splitlines() if name in line and "Sending" not in line
        ]
        assert len(lines) == 1, (name, program.log)
        assert schedulers.times(name) == []


@pytest.mark.parametrize("topology", KINDS, indirect=True)
def test_one_offs_that_are_added_to_a_running_scheduler_are_on_time(
    schedulers: Schedulers, record_property: Measure
) -> None:
    schedulers.run()
    # The scheduler has read the schedules once, and would do so again after a minute.
    time.sleep(2)
    schedules = [
        task(f"once-{after}-{number}", after=after) for number in range(3) for after in (0.5, 2, 5)
    ]
    schedulers.add(*schedules)
    schedulers.wait_for(each.schedule_id for each in schedules)
    late = sorted(schedulers.times(each.schedule_id)[0] - due(each) for each in schedules)
    record_property("late by", f"median {median(late):.2f} s, at most {late[-1]:.2f} s")
    assert late[0] >= -0.01
    assert late[-1] <= PUNCTUAL
    assert all(len(firings) == 1 for firings in schedulers.firings().values())


@on_all_sources
def test_one_offs_that_are_deleted_or_moved_shortly_before_do_not_fire(
    schedulers: Schedulers,
) -> None:
    deleted = [task(f"deleted-{number}", after=6 + number / 10) for number in range(10)]
    moved = [task(f"moved-{number}", after=6 + number / 10) for number in range(10)]
    sooner = [task(f"sooner-{number}", after=90) for number in range(3)]
    kept = task("kept", after=7.5)
    schedulers.add(*deleted, *moved, *sooner, kept, task("interval-0", interval=1))
    # Reading one key per schedule is expensive, and done only so often.
    schedulers.run(1, *(["--update-interval=2"] if schedulers.kind == "keys" else []))
    # It has read them all.
    schedulers.wait_for(["interval-0"])
    before = due(deleted[0]) - 0.7
    time.sleep(max(0.0, before - time.time()))
    later = [task(each.schedule_id, after=6) for each in moved]
    now = [task(each.schedule_id, after=1) for each in sooner]
    for each in deleted:
        schedulers.delete(each.schedule_id)
    gone = time.time()
    schedulers.add(*later, *now)
    replaced = time.time()
    schedulers.wait_for(each.schedule_id for each in (*later, *now, kept))

    def times_of_new(schedule_id: str) -> list[float]:
        return [at for at in schedulers.times(schedule_id) if at > replaced]

    # On a busy machine, some may have been due before they were moved. taskiq sends their IDs again
    # after its next update.
    wait_until(lambda: all(times_of_new(each.schedule_id) for each in later), timeout=90)
    schedulers.wait_for_more("interval-0", 2)
    # Some may have been due before the deletion, if the machine is very busy.
    for each in deleted:
        assert all(at <= gone for at in schedulers.times(each.schedule_id)), each.schedule_id
    for each, old in zip(later, moved, strict=True):
        times = times_of_new(each.schedule_id)
        assert len(times) == 1, each.schedule_id
        assert times[0] >= due(each) - 0.01
        assert due(old) <= replaced or len(schedulers.times(each.schedule_id)) == 1
    for each in (*now, kept):
        assert len(schedulers.times(each.schedule_id)) == 1, each.schedule_id


@mostly_on_one_server
def test_schedules_with_the_id_of_a_fired_one_fire_again(schedulers: Schedulers) -> None:
    # taskiq's scheduler sends an ID again only after an update without it.
    schedulers.run(1, "--update-interval=2")
    for number in range(1, 4):
        schedulers.add(task("again", after=0.2), task("other", after=60))
        schedulers.add(task("other", after=0.5))
        for name in ("again", "other"):
            wait_until(lambda: len(schedulers.times(name)) >= number, what=name)  # noqa: B023
    time.sleep(2)
    assert len(schedulers.times("again")) == len(schedulers.times("other")) == 3
