"""`wait_until`, which most tests use."""

import pytest

from tests.waiting import wait_until


def test_wait_until_error_shows_last_exception() -> None:
    def fails() -> bool:
        msg = "no route"
        raise OSError(msg)

    with pytest.raises(TimeoutError, match=r"the thing: not within 0.05 s.*no route"):
        wait_until(fails, timeout=0.05, what="the thing")
    assert wait_until(iter([0, 0, 7]).__next__) == 7
