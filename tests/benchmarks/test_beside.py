"""benchmarks/beside.py: what requests felt of other work, and that the work was done."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import beside
from benchmarks.figures import Figure, at_most
from benchmarks.pace import Paced
from benchmarks.processes import MeasureFailed


def paced(*milliseconds: float, others: int = 0) -> Paced:
    """Responses with these times, all of them 200 but for some others."""
    return Paced(sorted(milliseconds), Counter({"200": len(milliseconds) - others, "502": others}), 1.0)


def test_latencies_are_the_medians_of_rounds_and_what_must_not_happen_is_the_most() -> None:
    """Of each side; failures are of all."""
    rounds = {
        "alone": [beside.latencies(paced(1, 2)), beside.latencies(paced(1, 4)), beside.latencies(paced(1, 9))],
        "beside work": [beside.latencies(paced(5, 6, others=1)), beside.latencies(paced(5, 8, others=2))],
    }
    lines = beside.latency_lines(rounds, {"beside work": at_most(7)})
    assert {each.label: each.values["sidekey"] for each in lines} == {
        "p50 ms, alone": 1,
        "p50 ms, beside work": 5,
        "p99 ms, alone": 4,
        "p99 ms, beside work": 7,
        "p99.9 ms, alone": 4,
        "p99.9 ms, beside work": 7,
        "longest ms, alone": 9,
        "longest ms, beside work": 8,
        "failed requests": 3,
    }
    reaches = {each.label: str(each.reach) for each in lines if each.reach is not None}
    assert reaches == {"p99.9 ms, beside work": "sidekey at most 7", "failed requests": "sidekey at most 0"}


def test_a_line_says_of_when_it_is() -> None:
    figure = Figure("page ms", 1)
    assert [beside.line(figure, 2).label, beside.line(figure, 2, of="under load").label] == [
        "page ms",
        "page ms, under load",
    ]


def test_what_is_repeated_is_done_at_least_once() -> None:
    """A block that is over at once would otherwise report a load beside nothing."""
    with beside.repeating(lambda: 1) as found:
        pass
    assert found
    assert set(found) == {1}


def test_work_that_fails_fails_the_block() -> None:
    """Once it has ended: the load beside it is not cut."""

    def fail() -> None:
        raise MeasureFailed("no")

    done = []
    with pytest.raises(MeasureFailed, match="no"), beside.repeating(fail):
        done.append(True)
    assert done == [True]
