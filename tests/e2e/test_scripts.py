"""Plain scripts, threads, processes and greenlets, with the twin of an async broker."""

import signal
from collections import Counter

import pytest

from tests.e2e.conftest import Start
from tests.e2e.world import World

#: runs of `plain`
PLAIN = {**{f"plain {n}": 1 for n in range(20)}, "fail": 1, "report": 1, "by hand": 1}


def test_script_sends_waits_and_schedules(world: World, scheduler: Start) -> None:
    world.worker()
    program = world.script("plain", "shutdown")
    assert program.pauses() == []
    world.no_connections()
    program.go_on()
    assert program.ends() == "pause:\n"
    scheduler(app="tests.e2e.apps.twins:scheduler", role="scheduler")
    world.has_run({**PLAIN, "scheduled": 1})


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_script_without_shutdown_leaves_no_connections(world: World) -> None:
    world.worker()
    assert world.script("plain", "fall off the end").ends() == ""
    world.has_run(PLAIN)
    world.no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_script_that_exits_early_leaves_no_connections(world: World) -> None:
    world.worker()
    assert world.script("plain", "exit").ends(code=1) == "done\n"
    world.has_run(PLAIN)
    world.no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_terminated_script_leaves_no_connections(world: World) -> None:
    world.worker()
    program = world.script("plain", "wait")
    program.says("waiting")
    program.ends_by(signal.SIGTERM, code=-signal.SIGTERM)
    world.has_run(PLAIN)
    world.no_connections()


def test_threads_share_one_broker(world: World) -> None:
    world.worker()
    program = world.script("pool")
    threads = [name for name in program.pauses() if name.startswith("ThreadPool")]
    assert len(threads) == 32
    world.has_run({**{f"{a}.{b}": 1 for a in range(32) for b in range(5)}, "report": 4})
    # On each node, one per thread for sending and one per thread for reading results.
    nodes = 3 if world.setting.topology.kind == "cluster" else 1
    assert 1 <= len(world.connections()) <= 2 * 32 * nodes
    program.go_on()
    assert program.pauses(times=2) == []
    world.no_connections()
    program.go_on()
    program.ends()


def by_processes(*groups: str) -> Counter[str]:
    return Counter(f"{sender} {what}" for sender in groups for what in (0, 1, 2, 3, 4, "last"))


@pytest.mark.parametrize(
    ("topology", "method"),
    [("single", "fork"), ("single", "spawn"), ("cluster", "fork"), ("sentinel", "fork")],
    indirect=["topology"],
)
def test_child_processes_send_like_their_parent(world: World, method: str) -> None:
    world.worker()
    program = world.script("processes", method)
    program.pauses()
    world.has_run(
        by_processes("before", "beside", "process", "after", *(f"pool {n}" for n in range(4)))
    )
    world.no_connections()
    program.go_on()
    program.ends()


def test_forking_while_other_threads_send_is_safe(world: World) -> None:
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
def test_first_use_imports_no_modules(world: World) -> None:
    world.worker()
    assert world.script("first_use").ends() == "\n"


def test_signal_handler_may_call_stop_while_it_interrupts_sending(world: World) -> None:
    world.worker()
    program = world.script("signals")
    program.pauses()
    world.has_run({"signal": 80})
    world.no_connections()
    program.go_on()
    program.ends()


def test_greenlets_share_one_broker(world: World) -> None:
    pytest.importorskip("gevent")
    world.worker()
    program = world.script("greenlets")
    assert program.pauses() == []
    world.has_run({**{f"greenlet {number}": 1 for number in range(97)}, "report": 3})
    world.no_connections()
    program.go_on()
    program.ends()
