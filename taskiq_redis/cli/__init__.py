"""The command line ``taskiq-redis``, described in docs/operations.md."""

import os
import sys
import traceback

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

    prepare_streams()
    try:
        app(prog_name="taskiq-redis")
    except Exception:  # noqa: BLE001 - Python would exit with 1, which probes take for a no
        traceback.print_exc()
        sys.exit(2)


def prepare_streams() -> None:
    """Let output work if a stream is closed, or can't encode a name."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
