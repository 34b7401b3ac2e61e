"""What can be run here; `nox --list` lists it, and plain `nox` runs all that has to pass.

Arguments after `--` go to pytest. `nox -s tests compat -- --all` runs all tests everywhere, slow
ones too.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.sessions = ["tests", "compat", "docs-examples", "lint", "typing"]
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


@nox.session
@nox.parametrize(
    ("python", "redis"),
    [
        *(nox.param(python, "redis", id=python) for python in HERE),
        nox.param(OLDEST, OLDEST_REDIS, id=f"{OLDEST}, oldest redis"),
    ],
)
def tests(session: nox.Session, redis: str) -> None:
    """Run the suite with coverage on the newest Python, and a smoke test on the others."""
    arguments = [argument for argument in session.posargs if argument != "--all"]
    newest = session.python == NEWEST and redis != OLDEST_REDIS
    if newest:
        for python in PYTHONS:
            if python not in HERE:
                session.log(f"Python {python} is not here: skipped")
    session.install(*group("test"), redis, "-e", ".")
    everything = "--all" in session.posargs
    chosen = [] if everything else ["-m", "not slow" if newest else "smoke"]
    session.run(
        "pytest",
        # More processes than cores: most of the time, the tests wait.
        *(["--numprocesses=4"] if newest or everything else []),
        *chosen,
        # A part of the suite covers a part of the code.
        *(["--cov"] if newest and not arguments else []),
        *arguments,
        # Without a server nearly all would be skipped; there is one for all but Windows.
        env={} if sys.platform == "win32" else {"TEST_REDIS_REQUIRED": "1"},
    )


@nox.session(python=NEWEST)
def compat(session: nox.Session) -> None:
    """Let programs of taskiq-redis 1.2.4, in an environment of their own, share Redis with ours."""
    old = Path(session.create_tmp()).absolute() / "old"
    session.run("python", "-m", "venv", "--clear", str(old))
    old_python = str(old / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    session.run(old_python, "-m", "pip", "install", "--quiet", *OLD_RELEASE, external=True)
    session.install(*group("test"), "-e", ".")
    arguments = [argument for argument in session.posargs if argument != "--all"]
    session.run(
        "pytest",
        "tests/compat",
        "--numprocesses=4",
        *([] if "--all" in session.posargs else ["-m", "not slow"]),
        *arguments,
        env={"TASKIQ_REDIS_OLD_PYTHON": old_python, "TEST_REDIS_REQUIRED": "1"},
    )


@nox.session(python=NEWEST)
def faults(session: nox.Session) -> None:
    """Break servers, connections and workers in every way, for as long as that takes."""
    session.install(*group("test"), "-e", ".")
    session.run(
        "pytest",
        "tests/faults",
        "--numprocesses=4",
        *session.posargs,
        env={} if sys.platform == "win32" else {"TEST_REDIS_REQUIRED": "1"},
    )


@nox.session(name="docs-examples", python=NEWEST)
def docs_examples(session: nox.Session) -> None:
    """Run the code blocks of README.md and docs/, or those of the pages that are given."""
    session.install(*group("docs"), "-e", ".")
    session.run("python", "scripts/docs_examples.py", *session.posargs)


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
