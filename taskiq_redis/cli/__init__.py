"""The command line ``taskiq-redis``, described in docs/operations.md."""

import sys

#: how to install what it needs
INSTALL = "pip install 'taskiq-redis[cli]'"


def main() -> None:
    """Run the command line; exit with 2 if a package that it needs is missing."""
    try:
        import rich  # noqa: F401, PLC0415
        import typer  # noqa: F401, PLC0415
    except ImportError as error:
        sys.stderr.write(f"taskiq-redis needs the package {error.name!r}. Install it: {INSTALL}\n")
        sys.exit(2)
    from taskiq_redis.cli.app import app  # noqa: PLC0415 - it imports them

    app(prog_name="taskiq-redis")
