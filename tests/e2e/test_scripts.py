"""Plain scripts, threads, processes and greenlets, with the twin of an async broker."""

import signal
from collections import Counter

import pytest

from tests.e2e.blocking_programs import BlockingPrograms
from tests.e2e.conftest import Start

#: runs of `plain`
PLAIN = {**{f"plain {n}": 1 for n in range(20)}, "fail": 1, "report": 1, "by hand": 1}


def test_script_sends_waits_and_schedules(programs: BlockingPrograms, scheduler: Start) -> None:
    programs.worker()
    program = programs.script("plain", "shutdown")
    assert program.wait_for_pause() == []
    programs.wait_for_no_connections()
    program.resume()
    assert program.wait_for_exit() == "pause:\n"
    scheduler(app="tests.e2e.apps.twins:scheduler", role="scheduler")
    programs.wait_for_runs({**PLAIN, "scheduled": 1})


@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_script_without_shutdown_leaves_no_connections(programs: BlockingPrograms) -> None:
    programs.worker()
    assert programs.script("plain", "return").wait_for_exit() == ""
    programs.wait_for_runs(PLAIN)
    programs.wait_for_no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_script_that_exits_early_leaves_no_connections(programs: BlockingPrograms) -> None:
    programs.worker()
    assert programs.script("plain", "exit").wait_for_exit(code=1) == "done\n"
    programs.wait_for_runs(PLAIN)
    programs.wait_for_no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_terminated_script_leaves_no_connections(programs: BlockingPrograms) -> None:
    programs.worker()
    program = programs.script("plain", "wait")
    program.says("waiting")
    program.signal_and_wait(signal.SIGTERM, code=-signal.SIGTERM)
    programs.wait_for_runs(PLAIN)
    programs.wait_for_no_connections()


def test_threads_share_one_broker(programs: BlockingPrograms) -> None:
    programs.worker()
    program = programs.script("pool")
    threads = [name for name in program.wait_for_pause() if name.startswith("ThreadPool")]
    assert len(threads) == 32
    programs.wait_for_runs({**{f"{a}.{b}": 1 for a in range(32) for b in range(5)}, "report": 4})
    # On each node, one per thread for sending and one per thread for reading results.
    nodes = 3 if programs.setting.topology.kind == "cluster" else 1
    assert 1 <= len(programs.connections()) <= 2 * 32 * nodes
    program.resume()
    assert program.wait_for_pause(times=2) == []
    programs.wait_for_no_connections()
    program.resume()
    program.wait_for_exit()


def by_processes(*groups: str) -> Counter[str]:
    return Counter(f"{sender} {what}" for sender in groups for what in (0, 1, 2, 3, 4, "last"))


@pytest.mark.full
@pytest.mark.parametrize(
    ("topology", "method"),
    [("single", "fork"), ("single", "spawn"), ("cluster", "fork"), ("sentinel", "fork")],
    indirect=["topology"],
)
def test_child_processes_send_like_their_parent(programs: BlockingPrograms, method: str) -> None:
    programs.worker()
    program = programs.script("processes", method)
    program.wait_for_pause()
    programs.wait_for_runs(
        by_processes("before", "beside", "process", "after", *(f"pool {n}" for n in range(4)))
    )
    programs.wait_for_no_connections()
    program.resume()
    program.wait_for_exit()


@pytest.mark.full
def test_forking_while_other_threads_send_is_safe(programs: BlockingPrograms) -> None:
    programs.worker()
    program = programs.script("forks")
    sent, *threads = program.wait_for_pause()
    assert threads == ["taskiq-redis-portal"]
    assert int(sent) > 0
    programs.wait_for_runs({"thread": int(sent), "child": 12 * 3})
    programs.wait_for_no_connections()
    program.resume()
    program.wait_for_exit()


@pytest.mark.smoke
@pytest.mark.parametrize("topology", ["single", "cluster"], indirect=True)
def test_first_use_imports_no_modules(programs: BlockingPrograms) -> None:
    programs.worker()
    assert programs.script("first_use").wait_for_exit() == "\n"


def test_signal_handler_may_call_stop_while_it_interrupts_sending(
    programs: BlockingPrograms,
) -> None:
    programs.worker()
    program = programs.script("signals")
    program.wait_for_pause()
    programs.wait_for_runs({"signal": 80})
    programs.wait_for_no_connections()
    program.resume()
    program.wait_for_exit()


def test_greenlets_share_one_broker(programs: BlockingPrograms) -> None:
    pytest.importorskip("gevent")
    programs.worker()
    program = programs.script("greenlets")
    assert program.wait_for_pause() == []
    programs.wait_for_runs({**{f"greenlet {number}": 1 for number in range(97)}, "report": 3})
    programs.wait_for_no_connections()
    program.resume()
    program.wait_for_exit()
