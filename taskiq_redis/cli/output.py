"""What commands print: tables, JSON, questions and progress, all of it safe for a terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timezone
from enum import Enum
from math import inf, isfinite
from typing import Any, NoReturn, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

#: exit codes: yes, or done; no; unknown
YES, NO, UNKNOWN = 0, 1, 2
#: columns of the output if it isn't shown on a terminal
WIDTH = 200
#: characters of a cell of a table
MAX_TEXT = 500
#: columns of the terminal that a part of a broken name has at least
MIN_WIDTH = 10
#: columns besides those of numbers whose cells aren't broken
UNBROKEN = frozenset({"Kind", "State"})
#: s; pause between two looks at how much is left to do
PAUSE = 0.5


class PlainConsole(Console):
    """Raises BrokenPipeError as it is, instead of exiting with 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error again."""
        raise  # noqa: PLE0704 - it is called while the error is handled


def console(*, stderr: bool = False) -> Console:
    """Return a console on the current standard output or error, which interprets no markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDTH
    return PlainConsole(file=stream, width=width, markup=False, highlight=False, emoji=False)


def clean(text: str) -> str:
    """Return a text with escapes for all characters that a terminal may interpret.

    Args:
        text: name, ID or value that others have chosen.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def cell(value: object, style: str = "") -> Text:
    """Return a cell of a table.

    Args:
        value: what it shows; '-' for None.
        style: of rich, such as ``bold red``.
    """
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, datetime):
        text = f"{value.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}"
    elif isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}"
    else:
        text = clean(str(value))
    return Text(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}...", style=style)


def duration(seconds: float | None) -> str | None:
    """Return a duration, such as ``4 min 10 s``."""
    if seconds is None:
        return None
    if seconds == inf:
        return "never"
    if seconds < 60:
        return f"{seconds:.1f} s"
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    rest, parts = int(seconds), []
    for name, length in units:
        number, rest = divmod(rest, length)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2])


def table(title: str, *columns: str) -> Table:
    """Return an empty table.

    Args:
        title: its title.
        columns: headers; numbers stand on the right below those that begin with ``>``.
    """
    made = Table(
        title=Text(title, style="bold"),
        box=SIMPLE_HEAD,
        title_justify="left",
        collapse_padding=True,
        pad_edge=False,
    )
    for column in columns:
        header, right = column.removeprefix(">"), column.startswith(">")
        made.add_column(
            Text(header),
            justify="right" if right else "left",
            overflow="fold",
            # Headers, numbers and words aren't broken; names are.
            min_width=len(header),
            no_wrap=right or header in UNBROKEN,
        )
    return made


def show(*tables: Table) -> None:
    """Print tables; what doesn't fit, also with broken names, is left to the terminal."""
    shown = console()
    for made in tables:
        # Each column has a space before and after it.
        needed = sum((column.min_width or 0) + 2 for column in made.columns)
        shown.width = max(shown.width, needed)
        shown.print(made)


def add_row(made: Table, *values: object) -> None:
    """Add a row of any values to a table."""
    cells = [each if isinstance(each, Text) else cell(each) for each in values]
    made.add_row(*cells)
    for column, each in zip(made.columns, cells, strict=True):
        width = each.cell_len if column.no_wrap else min(each.cell_len, MIN_WIDTH)
        column.min_width = max(column.min_width or 0, width)


def as_json(value: object) -> str:
    """Return JSON on one line, in ASCII, so that it can't contain sequences for terminals."""
    return json.dumps(plain(value), default=str, allow_nan=False)


def plain(value: object) -> Any:
    """Return a value for JSON: dataclasses become dicts, times ISO 8601 texts."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    # JSON has no other word for infinity, and for what isn't a number.
    return None if isinstance(value, float) and not isfinite(value) else value


def say(text: str) -> None:
    """Print a line that isn't the answer itself, on standard error."""
    typer.echo(clean(text), err=True)


def answer(text: str) -> None:
    """Print a line of the answer."""
    typer.echo(clean(text))


def fail(text: str, code: int = UNKNOWN) -> NoReturn:
    """Print a line, and exit.

    Args:
        text: what went wrong, and what to do.
        code: exit code.
    """
    say(text)
    raise typer.Exit(code)


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal, and exit unless the answer is yes.

    Args:
        question: what is going to happen, as a question.
        yes: whether ``--yes`` was given; then there is no prompt.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} There is no terminal to ask on: repeat the command with --yes.")
    if not typer.confirm(clean(question), err=True):
        fail("Nothing was changed.", NO)


@contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error, if that is a terminal.

    Args:
        description: what is done.
        total: number of steps; None if it isn't known.

    Yields:
        A function that gets the number of steps that are done.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    shown = console(stderr=True)
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as progress:
        task = progress.add_task(clean(description), total=total or None)
        yield lambda done: progress.update(task, completed=done)


def watched(description: str, work: Callable[[], T], left: Callable[[], int]) -> T:
    """Do something that takes long, and show how much of it is left.

    Args:
        description: what is done.
        work: does it, and returns the result.
        left: returns how many things are left to do.
    """
    total = left()
    with progress_bar(description, total) as show, ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        while True:
            try:
                result = running.result(timeout=PAUSE)
            except FutureTimeoutError:
                if running.done():
                    raise
                show(max(0, total - left()))
            else:
                show(total)
                return result


def print_lines(rows: Iterable[object]) -> None:
    """Print one JSON object per line."""
    for row in rows:
        typer.echo(as_json(row))


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return a number with a noun, such as ``1 task`` or ``2 tasks``.

    Args:
        number: the number.
        noun: the noun for one.
        nouns: its plural. Default with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"


def call_arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """Return the arguments of a task as they look in a call.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
    """
    named = [f"{name}={value!r}" for name, value in kwargs.items()]
    return ", ".join([*map(repr, args), *named])


def described(thing: object) -> str:
    """Return the class, the names and the server of a broker or source, without a password."""
    return repr(thing).strip("<>")


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: in quotes, with commas."""
    return ", ".join(map(repr, names))
