"""Registrations of schedulers."""

import pytest

from taskiq_redis._core.schedulers import parse_schedulers

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
