"""What can be run here; `nox --list` lists it, and plain `nox` runs all that has to pass.

Arguments after `--` go to pytest. `nox -s tests -- --all` runs all tests everywhere, slow ones too.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.sessions = ["tests", "docs-examples", "lint", "typing"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
# What is_here() has found must run, and not be passed over.
nox.options.error_on_missing_interpreters = True

PYPROJECT = nox.project.load_toml("pyproject.toml")

#: the Python that runs this, which is tested even if it isn't in the list
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = ["3.14", "3.13", "3.12", "3.11", "3.10"]

#: what pip is asked for instead of the newest redis-py
OLDEST_REDIS = "redis==7.1.*"
#: what programs of 1.2.4 run with; and what all of taskiq's serializers need
OLD_RELEASE = ("taskiq-redis==1.2.4", "taskiq==0.13.*", "cbor2", "msgpack", "orjson")
#: other task queues, which `nox -s bench -- --peers` measures as well, and what pip is asked for;
#: by environment, since no redis-py suits all of them
PEERS = {
    "peers-blocking": (
        ("celery", "dramatiq", "huey", "rq"),
        ("celery", "dramatiq", "huey", "rq", "packaging"),
    ),
    "peers-asyncio": (("saq", "streaq", "docket"), ("saq[redis]", "streaq", "pydocket")),
    "peers-arq": (("arq",), ("arq",)),
}

#: for pytest: more processes than cores, since most of the time the tests wait; and who has nothing
#: left to do takes over from others, as tests that are slow stand side by side
AT_ONCE = ("--numprocesses=6", "--dist=worksteal")
#: for a smoke test, which is over before more of them would have started
TWO_AT_ONCE = ("--numprocesses=2", "--dist=worksteal")


def is_here(python: str) -> bool:
    """Tell whether a Python can be run; pyenv has commands for some that can't."""
    if python == OWN_PYTHON:
        return True
    command = shutil.which(f"python{python}")
    return (
        command is not None
        and not subprocess.run([command, "-c", ""], capture_output=True).returncode
    )


HERE = [python for python in PYTHONS if is_here(python)] or [OWN_PYTHON]
NEWEST, OLDEST = HERE[0], HERE[-1]


def group(name: str) -> tuple[str, ...]:
    """Return the requirements of a dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def install(session: nox.Session, *requirements: str) -> None:
    """Install ours, and what it is tested with; what is never imported need not be compiled."""
    session.install("--no-compile", *requirements, "-e", ".")


def install_old_release(session: nox.Session) -> str:
    """Make an environment with taskiq-redis 1.2.4 inside that of a session; return its Python."""
    return make_environment(session, "old", *OLD_RELEASE)


def install_bench(session: nox.Session) -> str:
    """Install what measures, and 1.2.4 in an environment of its own; return the Python of that."""
    install(session, *group("bench"))
    return make_environment(session, "old", *OLD_RELEASE, "hiredis>=3")


def make_environment(session: nox.Session, name: str, *requirements: str) -> str:
    """Make an environment inside that of a session, and return its Python."""
    # Not in `create_tmp()`, into which the temporary files of all tests would move.
    place = Path(session.virtualenv.location).absolute() / name
    session.run("python", "-m", "venv", "--clear", "--without-pip", str(place))
    python = str(place / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    arguments = ["--python", python, "install", "--quiet", "--no-compile"]
    session.run("python", "-m", "pip", *arguments, *requirements)
    return python


@nox.session(python=HERE)
def tests(session: nox.Session) -> None:
    """Run the suite with coverage on the newest Python, and a smoke test on the others.

    That of the newest has programs of taskiq-redis 1.2.4 share Redis with ours; that of the oldest
    is run once more with the oldest redis-py.
    """
    arguments = [argument for argument in session.posargs if argument != "--all"]
    newest, everything = session.python == NEWEST, "--all" in session.posargs
    at_once = AT_ONCE if newest or everything else TWO_AT_ONCE
    chosen = [] if everything else ["-m", "not slow" if newest else "smoke"]
    # Without a server nearly all would be skipped; there is one for all but Windows.
    environment = {} if sys.platform == "win32" else {"TEST_REDIS_REQUIRED": "1"}
    install(session, *group("test"))
    if newest:
        for python in PYTHONS:
            if python not in HERE:
                session.log(f"Python {python} is not here: skipped")
        environment["TASKIQ_REDIS_OLD_PYTHON"] = install_old_release(session)
        # A part of the suite covers a part of the code.
        chosen += [] if arguments else ["--cov"]
    session.run("pytest", *at_once, *chosen, *arguments, env=environment)
    if session.python == OLDEST:
        session.install(OLDEST_REDIS)
        chosen = [] if everything else ["-m", "smoke"]
        session.run("pytest", *at_once, *chosen, *arguments, env=environment)


@nox.session(python=NEWEST)
def compat(session: nox.Session) -> None:
    """Run only those tests of the newest Python that compare with 1.2.4 or run it beside ours."""
    install(session, *group("test"))
    environment = {"TASKIQ_REDIS_OLD_PYTHON": install_old_release(session)}
    arguments = [argument for argument in session.posargs if argument != "--all"]
    session.run(
        "pytest",
        "tests/compat",
        *AT_ONCE,
        *([] if "--all" in session.posargs else ["-m", "not slow"]),
        *arguments,
        env={**environment, "TEST_REDIS_REQUIRED": "1"},
    )


@nox.session(python=NEWEST)
def faults(session: nox.Session) -> None:
    """Break servers, connections and workers in every way, for as long as that takes."""
    install(session, *group("test"))
    session.run(
        "pytest",
        "tests/faults",
        *AT_ONCE,
        *session.posargs,
        env={} if sys.platform == "win32" else {"TEST_REDIS_REQUIRED": "1"},
    )


@nox.session(name="docs-examples", python=NEWEST)
def docs_examples(session: nox.Session) -> None:
    """Run the code blocks of README.md and docs/, or those of the pages that are given."""
    install(session, *group("docs"))
    session.run("python", "scripts/docs_examples.py", *session.posargs)


@nox.session(python=NEWEST)
def bench(session: nox.Session) -> None:
    """Measure this project and taskiq-redis 1.2.4 side by side, into benchmarks/results.

    With `--peers` after `--`, other task queues take part.
    """
    arguments = [argument for argument in session.posargs if argument != "--peers"]
    old = install_bench(session)
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
    """Measure how the cost of a task grows, here and in 1.2.4, into benchmarks/results."""
    old = install_bench(session)
    session.run("python", "benchmarks/growth.py", "--old", old, *session.posargs)


@nox.session(reuse_venv=True)
def lint(session: nox.Session) -> None:
    """Check style and formatting, and that the blocking twins are what would be generated."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("python", "scripts/unasync.py", "--check")


@nox.session(reuse_venv=True)
def typing(session: nox.Session) -> None:
    """Check types with mypy and pyright."""
    session.install(*group("typing"), "-e", ".")
    session.run("mypy")
    session.run("pyright")


@nox.session(reuse_venv=True)
def generate(session: nox.Session) -> None:
    """Write the blocking twins anew."""
    session.install(*group("lint"))
    session.run("python", "scripts/unasync.py", *session.posargs)


@nox.session(reuse_venv=True)
def quickstart(session: nox.Session) -> None:
    """Run a server and a worker, send tasks from asyncio and from blocking code, and end."""
    session.install(*group("server"), "-e", ".")
    session.run("python", "examples/quickstart/run.py")
