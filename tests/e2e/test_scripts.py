"""Plain scripts, threads, processes and greenlets, with the twin of an async broker."""

import signal
from collections import Counter

import pytest

from tests.e2e.conftest import Start
from tests.e2e.world import World

#: what `plain` runs
PLAIN = {**{f"plain {n}": 1 for n in range(20)}, "fail": 1, "report": 1, "by hand": 1}


def test_a_script_that_sends_waits_and_schedules(world: World, scheduler: Start) -> None:
    world.worker()
    program = world.script("plain", "shutdown")
    assert program.pauses() == []
    world.no_connections()
    program.go_on()
    assert program.ends() == "pause:\n"
    scheduler(app="tests.e2e.apps.twins:scheduler", role="scheduler")
    world.has_run({**PLAIN, "scheduled": 1})


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_a_script_that_closes_nothing(world: World) -> None:
    world.worker()
    assert world.script("plain", "fall off the end").ends() == ""
    world.has_run(PLAIN)
    world.no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_a_script_that_exits_in_the_middle(world: World) -> None:
    world.worker()
    assert world.script("plain", "exit").ends(code=1) == "done\n"
    world.has_run(PLAIN)
    world.no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_a_script_that_is_terminated_while_it_waits(world: World) -> None:
    world.worker()
    program = world.script("plain", "wait")
    program.says("waiting")
    program.ends_by(signal.SIGTERM, code=-signal.SIGTERM)
    world.has_run(PLAIN)
    world.no_connections()


def test_a_pool_of_threads_on_one_broker(world: World) -> None:
    world.worker()
    program = world.script("pool")
    threads = [name for name in program.pauses() if name.startswith("ThreadPool")]
    assert len(threads) == 32
    world.has_run({**{f"{a}.{b}": 1 for a in range(32) for b in range(5)}, "report": 4})
    # On each node, one per thread to send with, and one to read results with.
    nodes = 3 if world.setting.topology.kind == "cluster" else 1
    assert 1 <= len(world.connections()) <= 2 * 32 * nodes
    program.go_on()
    assert program.pauses(times=2) == []
    world.no_connections()
    program.go_on()
    program.ends()


def by_processes(*groups: str) -> Counter[str]:
    return Counter(f"{who} {what}" for who in groups for what in (0, 1, 2, 3, 4, "last"))


@pytest.mark.parametrize(
    ("topology", "method"),
    [("single", "fork"), ("single", "spawn"), ("cluster", "fork"), ("sentinel", "fork")],
    indirect=["topology"],
)
def test_processes_that_send_like_their_parent(world: World, method: str) -> None:
    world.worker()
    program = world.script("processes", method)
    program.pauses()
    world.has_run(
        by_processes("before", "beside", "process", "after", *(f"pool {n}" for n in range(4)))
    )
    world.no_connections()
    program.go_on()
    program.ends()


def test_forks_in_the_middle_of_what_other_threads_send(world: World) -> None:
    world.worker()
    program = world.script("forks")
    sent, *threads = program.pauses()
    assert threads == ["taskiq-redis-portal"]
    assert int(sent) > 0
    world.has_run({"thread": int(sent), "child": 12 * 3})
    world.no_connections()
    program.go_on()
    program.ends()


@pytest.mark.smoke
@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_nothing_is_imported_on_first_use(world: World) -> None:
    world.worker()
    assert world.script("first_use").ends() == "\n"


def test_a_signal_handler_may_shut_down_what_it_interrupts(world: World) -> None:
    world.worker()
    program = world.script("signals")
    program.pauses()
    world.has_run({"signal": 80})
    world.no_connections()
    program.go_on()
    program.ends()


def test_greenlets(world: World) -> None:
    pytest.importorskip("gevent")
    world.worker()
    program = world.script("greenlets")
    assert program.pauses() == []
    world.has_run({**{f"greenlet {number}": 1 for number in range(97)}, "report": 3})
    world.no_connections()
    program.go_on()
    program.ends()
