"""sources/tokens/call_limit.py: a sliding window of one minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidekey.sources.tokens.call_limit import WINDOW, CallLimit


def test_the_sixth_call_waits_until_the_first_is_a_minute_old() -> None:
    """Five at once are allowed, and after them one for each that leaves the window."""
    limit = CallLimit(5)
    for moment in (0.0, 1.0, 2.0, 3.0, 4.0):
        assert limit.wait(moment) == 0
        limit.note(moment)
    assert limit.wait(4.0) == 56
    assert limit.wait(59.5) == 0.5
    assert limit.wait(60.0) == 0
    limit.note(60.0)
    assert limit.wait(60.0) == 1


def test_without_a_limit_nothing_waits() -> None:
    """None lets any number through."""
    limit = CallLimit(None)
    for _ in range(1000):
        limit.note(0.0)
    assert limit.wait(0.0) == 0


def test_another_limit_remembers_the_calls_that_were_made() -> None:
    """A change of the config lets no more through."""
    limit = CallLimit(3)
    for moment in (0.0, 1.0, 2.0):
        limit.note(moment)
    assert limit.at_most(3) is limit
    assert limit.at_most(2).wait(2.0) == 59
    assert limit.at_most(4).wait(2.0) == 0
    more = limit.at_most(4)
    more.note(2.0)
    assert more.wait(2.0) == 58
    assert limit.at_most(None).wait(2.0) == 0


@given(st.integers(1, 6), st.lists(st.floats(0, 30), max_size=60))
def test_no_minute_holds_more_calls_than_allowed(most: int, gaps: list[float]) -> None:
    """Whenever somebody asks and keeps to what it says."""
    limit, made, now = CallLimit(most), [], 0.0
    for gap in gaps:
        now += gap
        if limit.wait(now) == 0:
            limit.note(now)
            made.append(now)
    assert all(later - earlier >= WINDOW for earlier, later in zip(made, made[most:], strict=False))
