"""Registrations of schedulers are parsed, whatever others have written."""

import pytest

from taskiq_redis._core import schedulers
from taskiq_redis._core.schedulers import is_scheduler_calling, parse_schedulers

NOW = 1_700_000_000_000


def test_registrations_are_sorted_and_garbage_is_left_out() -> None:
    fields = {
        "b": f"5000 {NOW - 14_000} {NOW - 60_000} 12 2.0.0 my host",
        "a": f"60000 {NOW + 5} {NOW} 13 2.0.0 other",
        "no time": f"5000 {NOW} {10**30} 12 2.0.0 host",
        "words": "nonsense",
        "number": "5000 x 1 1 1 1",
        "empty": "",
    }
    flat = [each.encode() for pair in fields.items() for each in pair]
    first, second, third = parse_schedulers(NOW, flat)
    assert (first.name, first.age, first.interval, first.is_alive) == ("a", 0, 60, True)
    assert (second.name, second.age, second.host, second.pid) == ("b", 14, "my host", 12)
    assert second.is_alive
    assert second.started is not None
    assert second.started.timestamp() == NOW / 1000 - 60
    assert (third.name, third.started) == ("no time", None)
    (old,) = parse_schedulers(NOW + 1000, [b"b", fields["b"]])
    assert not old.is_alive


def call(depth: int, function: object) -> bool:
    """Call a function from another one, and that from another one, and so on."""
    return call(depth - 1, function) if depth else bool(function())  # type: ignore[operator]


@pytest.mark.parametrize(("depth", "found"), [(1, True), (20, True), (100, False)])
def test_scheduler_is_recognized_behind_methods_of_users(depth: int, found: bool) -> None:
    names = {"__name__": schedulers.SCHEDULER, "call": call, "is_calling": is_scheduler_calling}
    exec("def get_schedules(depth): return call(depth, is_calling)", names)
    get_schedules = names["get_schedules"]
    assert get_schedules(depth) is found  # type: ignore[operator]
    assert not is_scheduler_calling()


VALUE = "5000 100 50 42 2.0.0 a host"


def test_registration_is_parsed() -> None:
    (scheduler,) = parse_schedulers(1100, [b"name", VALUE.encode()])
    assert (scheduler.name, scheduler.interval, scheduler.age) == ("name", 5.0, 1.0)
    assert (scheduler.pid, scheduler.version, scheduler.host) == (42, "2.0.0", "a host")


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("word", ["", "x", "9" * 400, "9" * 5000])
def test_what_is_no_registration_is_left_out(place: int, word: str) -> None:
    words = VALUE.split(" ", 5)
    words[place] = word
    found = parse_schedulers(1100, ["other", " ".join(words), "name", VALUE])
    assert "name" in [each.name for each in found]
    assert all(each.interval < 1e300 for each in found)
