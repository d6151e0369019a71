"""sources/tokens/schedule.py: refreshed ahead of the end, ended ahead of expiry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.sources.tokens.schedule import schedule

LIVES = st.floats(0.01, 1e9)
JITTERS = st.floats(0, 1)


@pytest.mark.parametrize(
    ("life", "refresh", "end"),
    [
        (3600, 3240, 3599),
        (300, 270, 299),
        (100, 70, 99),
        (60, 30, 59),
        (50, 25, 49),
        (20, 10, 19),
        (2, 1, 1.9),
        (86400, 77760, 86399),
    ],
)
def test_the_margin_is_a_tenth_but_at_least_30_s_and_at_most_half_the_life(
    life: float, refresh: float, end: float
) -> None:
    """expiry - min(max(30 s, 10 % of the life), half the life); handed out until a second before expiry, or 5 %."""
    assert schedule(1000.0, life, 0.0) == pytest.approx((1000 + refresh, 1000 + end, 1000 + life))


@given(LIVES, JITTERS)
def test_the_moments_of_a_life_are_in_order(life: float, jitter: float) -> None:
    """A token is used for some time, refreshed while it can be handed out, and never handed out expired."""
    plan = schedule(0.0, life, jitter)
    assert 0 < plan.refresh_at < plan.ends_at < plan.expires_at == life


@given(LIVES, JITTERS)
def test_jitter_only_makes_a_refresh_earlier_by_a_tenth_of_the_margin(life: float, jitter: float) -> None:
    """It moves neither the end nor the refresh beyond that."""
    plain, moved = schedule(0.0, life, 0.0), schedule(0.0, life, jitter)
    margin = life - plain.refresh_at
    assert moved.ends_at == plain.ends_at
    assert plain.refresh_at - margin / 10 <= moved.refresh_at + 1e-6 * life
    assert moved.refresh_at <= plain.refresh_at


@given(LIVES, JITTERS, st.floats(0.0, 1.0))
def test_what_costs_no_call_is_renewed_when_it_says(life: float, jitter: float, part: float) -> None:
    """No process waits for another; its end is as that of every token."""
    plan = schedule(100.0, life, jitter, life * part)
    assert plan.refresh_at == 100.0 + life * part
    assert plan[1:] == schedule(100.0, life, jitter)[1:]
