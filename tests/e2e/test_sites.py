"""Django and Flask under common web servers."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.e2e.blocking_programs import BlockingPrograms
from tests.e2e.programs import Program
from tests.servers import HOST, lease_port, release_port
from tests.waiting import TIMEOUT

pytestmark = pytest.mark.full

#: concurrent requests, and requests of each kind
CLIENTS, REQUESTS = 16, 40

Get = Callable[[str], Any]


@pytest.fixture
def port() -> Any:
    """Lease a free port for the site."""
    leased = lease_port()
    yield leased
    release_port(leased)


def getter(port: int) -> Get:
    """Return a function that requests a path of the site and parses the JSON."""

    def get(address: str) -> Any:
        connection = HTTPConnection(HOST, port, timeout=TIMEOUT)
        connection.request("GET", address)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return json.loads(body)

    return get


def watch(get: Get, steps: int) -> set[int]:
    """Start a task, poll it as a browser does, and return the observed steps."""
    seen: set[int] = set()
    task_id = get(f"/start/{steps}")["id"]
    while "result" not in (answer := get(f"/status/{task_id}")):
        seen.add(answer["step"])
    assert answer["result"] == f"{steps} steps"
    return seen


def check_site(programs: BlockingPrograms, site: Program, get: Get, max_connections: int) -> None:
    """Send concurrent requests to a site, and check that it has at most `max_connections`."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        names = [f"note {number}" for number in range(REQUESTS)]
        notes = pool.map(lambda what: get(f"/note/{what}".replace(" ", "%20"))["result"], names)
        watching = [pool.submit(watch, get, 4) for _ in range(3)]
        assert list(notes) == names
        seen = set().union(*(future.result() for future in watching))
    assert seen <= {0, 1, 2, 3, 4}
    assert seen & {1, 2, 3}
    assert site.process.poll() is None
    assert len(programs.connections()) <= max_connections


GUNICORN = ("-m", "gunicorn", "--graceful-timeout", "10", "--no-control-socket")
#: options of gunicorn, and the number of concurrent requests per process
KINDS = {
    "sync": (["--workers", "2"], 1),
    "gthread": (["--workers", "2", "--threads", "8"], 8),
    "sync-preload": (["--workers", "2", "--preload"], 1),
    "gthread-preload": (["--workers", "2", "--threads", "8", "--preload"], 8),
    "gevent": (["--workers", "2", "--worker-class", "gevent"], CLIENTS),
}


@pytest.mark.parametrize(
    "kind",
    [
        "sync",
        "gthread-preload",
        "gevent",
        pytest.param("gthread", marks=pytest.mark.slow),
        pytest.param("sync-preload", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_django_under_gunicorn(programs: BlockingPrograms, port: int, kind: str) -> None:
    pytest.importorskip("django")
    if kind == "gevent":
        pytest.importorskip("gevent")
    arguments, threads = KINDS[kind]
    programs.worker()
    site = programs.start(
        *GUNICORN,
        "--bind",
        f"{HOST}:{port}",
        *arguments,
        "tests.e2e.sites.django_site:application",
        extras={"at_import": "preload" in kind},
    )
    # gunicorn doesn't close its listening socket.
    site.expected.add("ResourceWarning")
    site.says("Booting worker", 2)
    # Each process has a connection per thread for the broker, as many for the results, and one that
    # listens for results; the process that loaded the application keeps those that it used.
    check_site(programs, site, getter(port), max_connections=2 * (2 * threads + 1) + 2)
    site.signal_and_wait(signal.SIGTERM)
    ran = {**{f"note {number}": 1 for number in range(REQUESTS)}, "report": 3}
    programs.wait_for_runs({**ran, "at import": 1} if "preload" in kind else ran)
    programs.wait_for_no_connections()


@pytest.mark.parametrize("topology", ["single"], indirect=True)
def test_flask_with_a_thread_for_each_request(programs: BlockingPrograms, port: int) -> None:
    pytest.importorskip("flask")
    programs.worker()
    site = programs.start(
        "-m", "flask", "--app", "tests.e2e.sites.flask_site", "run", "--port", str(port)
    )
    site.says("Running on")
    check_site(programs, site, getter(port), max_connections=2 * CLIENTS)
    site.signal_and_wait(signal.SIGINT)
    programs.wait_for_runs({**{f"note {number}": 1 for number in range(REQUESTS)}, "report": 3})
    programs.wait_for_no_connections()
