"""`taskiq scheduler` with all schedule sources of this package, along with taskiq's own."""

import sys
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from taskiq_redis import to_sync
from tests.core.pickles import ATTACKS, BOMBS
from tests.e2e.apps.scheduled import note
from tests.e2e.clients import Client
from tests.e2e.conftest import Clients, Start, mostly_on_one_server
from tests.e2e.recorder import Records
from tests.e2e.setting import Setting
from tests.servers import Topology, client_of
from tests.waiting import wait_until

Place = tuple[str, Client, Any]


@pytest.fixture
def places(setting: Setting, clients: Clients) -> list[Place]:
    """Return each kind of source with each client, and a name for the pair."""
    sources = {mechanism: setting.source(mechanism) for mechanism in ("keys", "indexed")}
    return [
        (f"{mechanism} {type(client).__name__}", client, source)
        for mechanism, source in sources.items()
        for client in clients
    ]


def in_seconds(seconds: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(seconds=seconds)


def not_now() -> str:
    """Return a cron expression that doesn't match during the test."""
    return f"{(datetime.now(timezone.utc).minute + 30) % 60} * * * *"


def test_schedules_of_all_kinds_are_sent(
    scheduler: Start,
    worker: Start,
    clients: Clients,
    records: Records,
    places: list[Place],
    setting: Setting,
) -> None:
    due = in_seconds(4)
    labels = {"colour": "blue", "count": 3}
    crons = {}
    for place, client, source in places:
        cron = client.schedule(
            source, {"cron": "* * * * *"}, note, f"{place} cron", [1, {"a": None}], labels=labels
        )
        crons[place] = cron.schedule_id
        client.schedule(source, {"cron": not_now()}, note, f"{place} other cron")
        client.schedule(source, {"interval": 1}, note, f"{place} interval")
        client.schedule(source, {"time": in_seconds(-90)}, note, f"{place} late")
        client.schedule(source, {"time": due}, note, f"{place} soon", task_id=f"my {place}")
    working = worker(app="tests.e2e.apps.scheduled:broker")
    began = time.time()
    program = scheduler()
    for place, _, _ in places:
        wait_until(lambda: records.count(f"{place} interval") >= 3)  # noqa: B023
        wait_until(lambda: records.count(f"{place} soon"))  # noqa: B023
    wait_until(lambda: records.count("label") >= 3)

    def left(source: Any) -> Counter[str]:
        return Counter(kind_of(each.model_dump()) for each in clients[0].schedules(source))

    for _, _, source in places:
        # A one-off schedule is deleted after its task was sent; don't stop the scheduler in between.
        wait_until(lambda: left(source)["time"] == 0)  # noqa: B023
    with to_sync(setting.source("indexed")) as source:
        (registered,) = source.schedulers()
        assert registered.is_alive
        assert program.stop() == program.proper_end
        assert source.schedulers() == []
    ended = time.time()
    assert working.stop() == 0

    for place, _, _ in places:
        cron, *others = records.of(f"{place} cron")
        # Once per minute of the test.
        assert len(others) <= ended // 60 - began // 60
        assert cron["more"] == [1, {"a": None}]
        # Labels are sent as text.
        assert cron["labels"] == {"colour": "blue", "count": "3", "schedule_id": crons[place]}
        assert records.count(f"{place} other cron") == 0
        intervals = records.of(f"{place} interval")
        assert len({run["task"] for run in intervals}) == len(intervals) <= ended - began + 2
        assert records.count(f"{place} late") == 1
        (soon,) = records.of(f"{place} soon")
        assert soon["task"] == f"my {place}"
        assert soon["at"] >= due.timestamp()
    assert records.count("old label") == 1
    assert records.of("label")[0]["labels"].items() >= {"colour": "red", "shade": "dark"}.items()
    # Only one-off schedules are deleted.
    for _, _, source in places:
        assert left(source) == {"cron": 4, "interval": 2}


def kind_of(when: dict[str, Any]) -> str:
    (kind,) = (kind for kind in ("cron", "interval", "time") if when.get(kind) is not None)
    return kind


@pytest.mark.full
@mostly_on_one_server
def test_running_scheduler_follows_added_and_deleted_schedules(
    scheduler: Start, worker: Start, records: Records, places: list[Place]
) -> None:
    worker(app="tests.e2e.apps.scheduled:broker")
    scheduler()
    created = []
    for place, client, source in places:
        for when in ({"interval": 1}, {"cron": "* * * * *"}):
            schedule = client.schedule(source, when, note, f"{place} {kind_of(when)}")
            created.append((client, schedule))
        client.schedule(source, {"time": in_seconds(1)}, note, f"{place} time")
    wanted = [f"{place} {kind}" for place, _, _ in places for kind in ("interval", "cron", "time")]
    wait_until(lambda: all(map(records.count, wanted)))
    for client, schedule in created:
        client.unschedule(schedule)
    # A scheduler that has read these has also read the deletions.
    for place, client, source in places:
        client.schedule(source, {"time": in_seconds(0)}, note, f"{place} mark")
    marks = [f"{place} mark" for place, _, _ in places]
    wait_until(lambda: all(map(records.count, marks)))
    before = {what: records.count(what) for what in wanted}
    others = records.count("label")
    wait_until(lambda: records.count("label") >= others + 4)
    for what in wanted:
        # One more run may already have been sent to the worker.
        more = 1 if what.endswith("interval") else 0
        assert before[what] <= records.count(what) <= before[what] + more
        assert before[what] == 1 or what.endswith("interval")


@pytest.mark.full
@mostly_on_one_server
def test_scheduler_survives_any_stored_bytes(
    topology: Topology,
    scheduler: Start,
    worker: Start,
    clients: Clients,
    records: Records,
    setting: Setting,
) -> None:
    client = clients[0]
    sources = {mechanism: setting.source(mechanism) for mechanism in ("keys", "indexed")}
    bad = [*BOMBS.values(), *ATTACKS.values(), b"[" * 100_000, b"secret " * 300_000]
    for mechanism, source in sources.items():
        client.schedule(source, {"interval": 1}, note, f"{mechanism} before")
        for data in bad:
            created = client.schedule(source, {"interval": 1}, note, "replaced")
            key = source._data_key(created.schedule_id)
            client_of(topology).set(key, data)
        client.schedule(source, {"time": in_seconds(0)}, note, f"{mechanism} once")
        client.schedule(source, {"interval": 1}, note, f"{mechanism} after")
    worker(app="tests.e2e.apps.scheduled:broker")
    program = scheduler()
    program.expected.add("is skipped: ")
    for mechanism in sources:
        wait_until(lambda: records.count(f"{mechanism} before") >= 2)  # noqa: B023
        wait_until(lambda: records.count(f"{mechanism} after") >= 2)  # noqa: B023
        assert records.count(f"{mechanism} once") == 1
    # taskiq complains if it is stopped while it reads schedules, which takes a while here.
    program.ends_in_order = False
    program.stop()
    assert records.count("replaced") == 0
    # Each is logged once, in a line or two, without what is in it.
    assert program.log.count("is skipped: ") == len(bad) * len(sources)
    assert len(program.log) < 2000 * len(bad) * len(sources)
    assert "secret" not in program.log


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio doesn't shut it down cleanly")
def test_scheduler_shuts_down_cleanly(setting: Setting, scheduler: Start, records: Records) -> None:
    program = scheduler()
    wait_until(setting.connections)
    assert program.stop() == program.proper_end
    assert "Scheduler shut down." in program.log
    assert records.count("client event") == 2
    wait_until(lambda: not setting.connections())
