"""Options that many commands have, and decorators that add them to a command."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TypeVar

import typer

from taskiq_redis.cli.output import UNKNOWN, fail
from taskiq_redis.cli.targets import CommandError, Target, spec_and_url, split_words
from taskiq_redis.exceptions import TaskIQRedisError

F = TypeVar("F", bound=Callable[..., None])


class Mechanism(str, Enum):
    """Where a broker keeps its messages."""

    STREAM = "stream"
    LIST = "list"
    PUBSUB = "pubsub"


class Kind(str, Enum):
    """How a schedule source keeps its schedules."""

    INDEXED = "indexed"
    KEYS = "keys"


Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODULE:BROKER]",
        help="Import path of the broker, as for `taskiq worker`. Default $TASKIQ_REDIS_BROKER.",
        show_default=False,
    ),
]
SourceSpec = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODULE:SOURCE]",
        help="Import path of the schedule source, or of the scheduler, as for `taskiq scheduler`. "
        "Default $TASKIQ_REDIS_BROKER.",
        show_default=False,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="Address of the server, instead of MODULE:BROKER. Default $TASKIQ_REDIS_URL, which "
        "other users don't see in the list of processes.",
        show_default=False,
    ),
]
AppDir = Annotated[
    str | None,
    typer.Option("--app-dir", help="Folder to import from, besides this one.", show_default=False),
]
Cluster = Annotated[
    bool,
    typer.Option(
        "--cluster",
        help="The server is a node of a Redis Cluster.",
        envvar="TASKIQ_REDIS_CLUSTER",
    ),
]
Sentinel = Annotated[
    str | None,
    typer.Option(
        "--sentinel",
        metavar="MASTER",
        help="The URL names sentinels, host:port,host:port, which monitor this master.",
        envvar="TASKIQ_REDIS_SENTINEL",
        show_default=False,
    ),
]
OfMechanism = Annotated[
    Mechanism,
    typer.Option("--mechanism", help="Kind of the broker.", envvar="TASKIQ_REDIS_MECHANISM"),
]
Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue", "-q", help="Queue; may be repeated.", metavar="NAME", show_default=False
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Only this consumer group.",
        metavar="NAME",
        envvar="TASKIQ_REDIS_GROUP",
        show_default=False,
    ),
]
Prefix = Annotated[
    str,
    typer.Option("--prefix", help="Prefix of the schedules.", envvar="TASKIQ_REDIS_PREFIX"),
]
OfKind = Annotated[
    Kind,
    typer.Option(
        "--kind", help="Kind of the schedule source: the indexed one, or one key per schedule."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ShowArgs = Annotated[
    bool, typer.Option("--args", help="Show arguments and labels, which may be secret.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Maximum number.")]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="Only tasks of this name.", metavar="NAME", show_default=False),
]
Results = Annotated[
    str | None,
    typer.Option(
        "--results",
        metavar="PREFIX",
        help="With --url: `prefix_str` of the result backend. Default none.",
        show_default=False,
    ),
]


def _server(
    url: Url = None,
    cluster: Cluster = False,
    sentinel: Sentinel = None,
    app_dir: AppDir = None,
) -> None:
    """Declare the options of a server."""


def _broker(
    mechanism: OfMechanism = Mechanism.STREAM, queue: Queues = None, group: Group = None
) -> None:
    """Declare the options of a broker."""


def _source(prefix: Prefix = "schedule", kind: OfKind = Kind.INDEXED) -> None:
    """Declare the options of a schedule source."""


def _spec(spec: Spec = None) -> None:
    """Declare the import path of a broker as an argument."""


def _source_spec(spec: SourceSpec = None) -> None:
    """Declare the import path of a schedule source as an argument."""


def on_broker(function: F) -> F:
    """Add the options for a broker to a function, which gets it as its parameter `target`."""
    return _with_target(function, _spec, _server, _broker)


def on_source(function: F) -> F:
    """Add the options for a schedule source to a function, which gets it as `target`."""
    return _with_target(function, _source_spec, _server, _source)


def on_both(function: F) -> F:
    """Add the options for a broker and a schedule source to a function."""
    return _with_target(function, _spec, _server, _broker, _source)


def _with_target(function: F, spec: Callable[..., None], *groups: Callable[..., None]) -> F:
    """Replace the parameter `target` of a function by options; report its errors in a line each.

    A parameter `ids` gets the arguments after the import path.

    Args:
        function: the function.
        spec: declares the import path as a parameter; left out if there are IDs.
        groups: declare the options as parameters.
    """
    own = {name: each for name, each in _parameters(function).items() if name != "target"}
    if "ids" not in own:
        groups = (spec, *groups)
    shared = {name: each for group in groups for name, each in _parameters(group).items()}

    @wraps(function)
    def command(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        with one_line_errors():
            if "ids" in own:
                words = given["ids"] or []
                options["spec"], given["ids"] = split_words(words, options["url"])
            function(target=_target(**options), **given)

    parameters = [
        each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own.values(), *shared.values())
    ]
    parameters.sort(key=lambda each: each.name not in {"spec", "ids"})
    made: Any = command
    made.__signature__ = Signature(parameters)
    made.__annotations__ = {each.name: each.annotation for each in parameters}
    return made  # type: ignore[no-any-return]


def _parameters(function: Callable[..., None]) -> dict[str, Parameter]:
    return dict(signature(function, eval_str=True).parameters)


def _target(queue: list[str] | None = None, **options: Any) -> Target:
    spec, url = spec_and_url(options.pop("spec"), options.pop("url"))
    texts = {
        name: value.value if isinstance(value, Enum) else value for name, value in options.items()
    }
    return Target(spec=spec, url=url, queues=tuple(queue or ()), **texts)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print expected errors as a line, and exit with 2."""
    try:
        yield
    except (TaskIQRedisError, CommandError) as error:
        fail(str(error))
    except BrokenPipeError:
        # The reader has read enough, as `head` does. Nothing may be written at the exit either.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        raise typer.Exit(UNKNOWN) from None
    except OSError as error:
        fail(f"The output can't be written: {error}.")
