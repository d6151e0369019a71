"""network/backoff.py: longer and longer, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.network.backoff import LONGEST, LONGEST_ASKED, growing, pause

FAILURES = st.integers(1, 100_000)
JITTERS = st.floats(0, 1)
ASKED = st.none() | st.floats(0, 1e9)


@pytest.mark.parametrize(("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (100_000, 60)])
def test_the_pause_doubles_from_one_second_to_sixty(failures: int, seconds: float) -> None:
    """Without jitter and without Retry-After."""
    assert pause(failures, 0.0) == seconds


@pytest.mark.parametrize(("asked", "seconds"), [(0.5, 4), (4, 4), (30, 30), (3600, 3600), (86_400, 3600)])
def test_retry_after_makes_it_longer_up_to_an_hour(asked: float, seconds: float) -> None:
    """A shorter one does not shorten the back-off."""
    assert pause(3, 0.0, asked) == seconds


@given(FAILURES, JITTERS, ASKED)
def test_a_pause_is_within_its_bounds(failures: int, jitter: float, asked: float | None) -> None:
    """Never under three quarters of a second, never over the longest that may be asked for."""
    assert 0.75 <= pause(failures, jitter, asked) <= LONGEST_ASKED
    assert pause(failures, jitter) <= LONGEST


@given(FAILURES, JITTERS, ASKED)
def test_jitter_only_shortens_and_never_below_what_was_asked(failures: int, jitter: float, asked: float | None) -> None:
    """By a quarter at most."""
    plain, moved = pause(failures, 0.0, asked), pause(failures, jitter, asked)
    assert plain * 0.75 <= moved <= plain
    assert moved >= min(asked or 0.0, LONGEST_ASKED)


def test_a_refresh_gets_another_jitter_each_time() -> None:
    """Many processes that failed at the same moment do not stay together."""
    jitters = iter([0.0, 1.0, 1.0])
    seconds = growing(lambda: next(jitters))
    assert [seconds(3, None), seconds(3, None), seconds(3, 30.0)] == [4.0, 3.0, 30.0]
