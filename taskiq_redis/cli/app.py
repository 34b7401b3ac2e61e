"""The commands of ``taskiq-redis``."""

import typer

from taskiq_redis import __version__
from taskiq_redis.cli import control, dead, info, messages, metrics, probes, schedules, status

app: typer.Typer = typer.Typer(
    help="See what queues and schedules do, and control them. Exit codes: 0 yes or done, 1 no, "
    "2 unknown (server away, bad option).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _module in (info, messages, dead, control, status, schedules, probes, metrics):
    _module.register(app)


@app.command("version")
def version() -> None:
    """Print the version of taskiq-redis."""
    typer.echo(__version__)
