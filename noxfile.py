"""All that maintainers run: `nox -s quickstart | tests | lint | typing | generate`.

Needs nothing but the Pythons that are there: servers for the tests come from PyPI.
"""

import shutil
import subprocess

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.sessions = ["tests", "lint", "typing"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
OLDEST_REDIS = "redis==7.1.*"


def works(python: str) -> bool:
    """Tell whether a Python is here; a shim of pyenv may be, and not work."""
    path = shutil.which(f"python{python}")
    return path is not None and not subprocess.run([path, "-c", ""], capture_output=True).returncode


FOUND = [python for python in PYTHONS if works(python)]
NEWEST = FOUND[-1] if FOUND else PYTHONS[-1]


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and groups of what it is developed with."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, *groups))


@nox.session
def quickstart(session: nox.Session) -> None:
    """Start a server and a worker, send tasks, and show their progress and results."""
    install(session, "server")
    session.run("python", "examples/quickstart/run.py", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run everything on the newest Python that is here, and the quick part on the others.

    `-- --all` runs everything on all of them; other arguments go to pytest.
    """
    python = str(session.python)
    if python not in FOUND:
        session.skip(f"Python {python} is not here: skipped")
    arguments = [argument for argument in session.posargs if argument != "--all"]
    everything = python == NEWEST or len(arguments) < len(session.posargs)
    install(session, "test")
    if everything:
        full = ["-n", "2", "--cov", "--cov-report=term"]
        session.run("pytest", *full, *arguments)
    else:
        session.run("pytest", "-m", "smoke", *arguments)
    if python == FOUND[0]:
        session.log("Once more with the oldest redis-py")
        session.install(OLDEST_REDIS)
        session.run("pytest", "-m", "smoke", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, and that the blocking twins are what their sources say."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("python", "scripts/unasync.py", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of both twins, and what users see of them."""
    install(session, "typing")
    session.run("mypy")
    session.run("pyright")


@nox.session(default=False)
def generate(session: nox.Session) -> None:
    """Write the blocking twins anew."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("python", "scripts/unasync.py")
