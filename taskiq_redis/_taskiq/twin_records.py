"""Which objects are blocking twins of which async ones, so that tests can replace all of them."""

import weakref
from collections.abc import Callable

from taskiq_redis._core.locks import ForkSafeLock

Reference = weakref.ReferenceType[object]

_lock = ForkSafeLock()
#: async objects and their twins
_pairs: list[tuple[Reference, Reference]] = []
#: functions to call with an async object and its new twin
observers: list[Callable[[object, object], None]] = []


def record_twin(source: object, twin: object) -> None:
    """Record that an object is the twin of another one.

    Args:
        source: the async object.
        twin: its blocking twin.
    """
    with _lock:
        # Some programs make a twin for each call.
        _pairs[:] = [pair for pair in _pairs if pair[0]() is not None and pair[1]() is not None]
        _pairs.append((weakref.ref(source), weakref.ref(twin)))
    for observe in tuple(observers):
        observe(source, twin)


def source_of(twin: object) -> object | None:
    """Return the async object of a twin, or None if it is none, or if that object is gone.

    Args:
        twin: a blocking object.
    """
    with _lock:
        return next((source() for source, other in _pairs if other() is twin), None)


def relatives_of(given: object) -> list[object]:
    """Return the objects that `to_sync` relates to one: its async object, and the twins of that.

    Args:
        given: an async or a blocking object.
    """
    source = source_of(given)
    original = given if source is None else source
    with _lock:
        twins = [twin() for known, twin in _pairs if known() is original]
    return [each for each in (source, *twins) if each is not None and each is not given]
