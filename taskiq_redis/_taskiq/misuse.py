"""The base class of blocking objects, and errors for these where async ones belong."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

#: taskiq's module that checks the class of a worker's broker
_WORKER = "taskiq.cli.worker.run"


class Blocking:
    """Base class of blocking brokers, result backends and schedule sources.

    taskiq's own workers and schedulers can't use them, and get an error that says what to do.
    """

    @property
    def __class__(self) -> type[Any]:
        """The class. `taskiq worker` asks for it, and would only say that the broker is unknown."""
        if sys._getframe(1).f_globals.get("__name__") in ("abc", _WORKER):
            _refuse(self, _WORKER)
        return type(self)

    @__class__.setter
    def __class__(self, kind: type[Any]) -> None:
        object.__dict__["__class__"].__set__(self, kind)

    def startup(self) -> None:
        """Connect; optional, for the first use connects too."""
        self._check_caller()

    def shutdown(self) -> None:
        """Release connections and other resources."""

    def __enter__(self) -> "Self":
        self.startup()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    def _check_caller(self) -> None:
        """Raise an error if taskiq calls, which would await what a blocking method returns."""
        _refuse(self, "taskiq.")


def _refuse(made: object, caller: str) -> None:
    """Raise an error if the first caller outside of this package is in a module of taskiq."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _module(frame).startswith(("taskiq_redis.", "abc")):
        frame = frame.f_back
    if _module(frame).startswith(caller):
        kind = type(made).__name__
        raise TypeError(
            f"taskiq's workers and schedulers need async objects, and {kind} is a blocking class. "
            f"Give them a {kind.removeprefix('Sync')}, such as the one that to_sync(...) gets."
        )


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__"))


def refuse_blocking(given: object, what: str) -> None:
    """Raise an error if a blocking object is given to an async one.

    Args:
        given: the object.
        what: what it is, such as "result backend".
    """
    if isinstance(given, Blocking):
        kind = type(given).__name__
        raise TypeError(
            f"{kind} is a blocking {what}. Give the async one here, such as "
            f"{kind.removeprefix('Sync')}; to_sync(broker) makes the twins of a broker and its "
            "result backend."
        )


def check_kind(given: object, kind: type, owner: object) -> None:
    """Raise an error if a schedule source isn't async, or not blocking, like its owner.

    Args:
        given: the schedule source.
        kind: the base class of sources that the owner can use.
        owner: another schedule source.
    """
    if not isinstance(given, kind):
        raise TypeError(
            f"{type(given).__name__} is not a source for {type(owner).__name__}. Give an async "
            "source to an async one, and to a blocking one its twin: to_sync(source)."
        )
