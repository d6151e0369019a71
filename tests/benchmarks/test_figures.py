"""Medians, and what a line must reach."""

from __future__ import annotations

import pytest

from benchmarks.figures import (
    CPU,
    P50,
    RATE,
    Line,
    Outcome,
    Reach,
    at_least,
    at_most,
    cpu_ratios,
    lines_of,
    medians,
)


def test_medians_are_taken_figure_by_figure() -> None:
    """The rounds that hold the medians of two figures may be different ones."""
    rounds = [{RATE: 1.0, CPU: 9.0}, {RATE: 3.0, CPU: 7.0}, {RATE: 2.0, CPU: 8.0}]
    assert medians(rounds) == {RATE: 2.0, CPU: 8.0}


@pytest.mark.parametrize(
    ("reach", "values", "measured", "verdict"),
    [
        pytest.param(at_least(1.5, over="envoy"), {"sidekey": 3, "envoy": 2}, 1.5, "ok", id="just reached"),
        pytest.param(at_least(1.5, over="envoy"), {"sidekey": 2, "envoy": 2}, 1, "not reached", id="too little"),
        pytest.param(at_most(1, over="envoy"), {"sidekey": 3, "envoy": 2}, 1.5, "not reached", id="too much"),
        pytest.param(
            at_least(0.7, "nginx", over="sidekey"), {"sidekey": 2, "nginx": 1}, 0.5, "not reached", id="share"
        ),
        pytest.param(at_most(24), {"sidekey": 24}, 24, "ok", id="no peer to compare with"),
        pytest.param(at_most(24), {"envoy": 24}, None, "-", id="Sidekey is missing"),
        pytest.param(at_least(1, over="envoy"), {"sidekey": 24}, None, "-", id="the peer is missing"),
        pytest.param(at_least(1, over="envoy"), {"sidekey": 24, "envoy": 0}, None, "-", id="nothing to divide by"),
    ],
)
def test_a_reach_is_judged_by_value_or_by_ratio(
    reach: Reach, values: dict[str, float], measured: float | None, verdict: str
) -> None:
    """A reach without `over` judges the value, with it the ratio, and without figures it says nothing."""
    assert reach.measured(values) == measured
    assert reach.verdict(values) == verdict


def test_a_reach_says_in_words_what_it_requires() -> None:
    """The table shows these words."""
    assert str(at_least(1.5, over="envoy")) == "sidekey / envoy at least 1.5"
    assert str(at_most(0.5)) == "sidekey at most 0.5"


def test_a_figure_that_one_peer_lacks_still_has_its_line() -> None:
    """The lines are the union of the figures of all columns, in the order of their first value."""
    lines = lines_of({"sidekey": {RATE: 1.0}, "envoy": {RATE: 2.0, P50: 3.0}}, {P50: at_most(1)})
    assert [(line.label, dict(line.values), line.reach) for line in lines] == [
        ("requests/s", {"sidekey": 1.0, "envoy": 2.0}, None),
        ("p50 ms", {"envoy": 3.0}, at_most(1)),
    ]


def test_a_goal_beside_a_peer_compares_cpu_and_not_the_rate() -> None:
    """The rate depends on the load and the upstream too. Without a peer's figures the goal stays, unmeasured."""
    columns = {"sidekey": {RATE: 1.0, CPU: 20.0}, "envoy": {RATE: 1.0, CPU: 50.0}}
    lines = cpu_ratios(columns, {"envoy": 1.8, "nginx": 0.8})
    assert [(line.label, line.values, str(line.reach)) for line in lines] == [
        ("CPU of envoy / CPU of sidekey", {"envoy": 2.5}, "envoy at least 1.8"),
        ("CPU of nginx / CPU of sidekey", {}, "nginx at least 0.8"),
    ]


def test_results_hold_the_rounds_and_the_goals() -> None:
    """A reader of the results can judge them again."""
    line = Line("requests/s", RATE, {"sidekey": 4.0, "envoy": 2.0}, at_least(1.5, over="envoy"))
    outcome = Outcome((line,), {"nginx": "it ended"}, {"sidekey": [{RATE: 4.0}]}, {"envoy": "TLSv1.3 X25519"})
    assert outcome.as_json() == {
        "lines": [
            {
                "figure": "requests/s",
                "values": {"sidekey": 4.0, "envoy": 2.0},
                "reach": {"limit": 1.5, "sense": "at least", "peer": "sidekey", "over": "envoy"},
            }
        ],
        "failures": {"nginx": "it ended"},
        "tls": {"envoy": "TLSv1.3 X25519"},
        "rounds": {"sidekey": [{"requests/s": 4.0}]},
    }
