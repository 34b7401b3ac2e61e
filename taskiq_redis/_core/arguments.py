"""Find the argument of a task that can't be serialized. Its value is never shown, only its type."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

#: raises an exception if a value can't be serialized
Probe = Callable[[Any], object]

#: how deep, and into how many items of one container, the search for the cause goes
_MAX_DEPTH, _MAX_ITEMS = 10, 1000


def named_arguments(
    function: Callable[..., Any] | None, args: Iterable[Any], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of a call with the names of their parameters.

    Args:
        function: function of the task; None if this process doesn't know it.
        args: positional arguments, named ``args[0]`` and so on if their parameters are unknown.
        kwargs: keyword arguments.
    """
    names = [] if function is None else _positional_parameters(function)
    for index, value in enumerate(args):
        yield names[index] if index < len(names) else f"args[{index}]", value
    yield from kwargs.items()


def _positional_parameters(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in parameters if each.kind in positional]


def find_failing(arguments: Iterable[tuple[str, Any]], probe: Probe) -> tuple[str, str] | None:
    """Return the name of the first argument that can't be serialized, and why not; None for none.

    Return None also if nothing can be serialized: then the cause is something else, such as the
    labels that a formatter demands.

    Args:
        arguments: names and values.
        probe: see `Probe`.
    """
    if _error_of(probe, None) is not None:
        return None
    for name, value in arguments:
        error = _error_of(probe, value)
        if error is not None:
            return name, f"{_describe(value, probe)} ({type(error).__name__})"
    return None


def _error_of(probe: Probe, value: Any) -> Exception | None:
    try:
        probe(value)
    except Exception as error:  # noqa: BLE001 - a serializer may raise anything
        return error
    return None


def _describe(value: Any, probe: Probe) -> str:
    """Return the type of the innermost value that can't be serialized."""
    inside, depth = value, 0
    while depth < _MAX_DEPTH:
        failing = next((each for each in _items(inside) if _error_of(probe, each)), inside)
        if failing is inside:
            break
        inside, depth = failing, depth + 1
    what = (
        f"the class {inside.__name__}"
        if isinstance(inside, type)
        else f"a value of type {type(inside).__name__}"
    )
    return f"it is {what}" if depth == 0 else f"it contains {what}"


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from islice(value.values(), _MAX_ITEMS)
    elif isinstance(value, list | tuple | set | frozenset):
        yield from islice(value, _MAX_ITEMS)
