"""Timestamps equal those of datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sidekey.observe.clock import Clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.lists(st.integers(0, 4_000_000_000_000_000), min_size=1))
def test_any_times_in_any_order_equal_datetime(microseconds: list[int]) -> None:
    """The clock caches the text of the current second."""
    clock = Clock()
    for moment in microseconds:
        expected = (EPOCH + timedelta(microseconds=moment)).isoformat(timespec="microseconds").replace("+00:00", "Z")
        assert clock.format(moment * 1000 + 999) == expected


def test_stamp_is_the_current_time() -> None:
    before = datetime.now(UTC)
    stamp = datetime.fromisoformat(Clock().stamp())
    assert before <= stamp <= datetime.now(UTC)
