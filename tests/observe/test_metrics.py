"""observe/metrics.py: counters that a request costs next to nothing."""

from __future__ import annotations

import pytest

from sidekey.observe.metrics import BOUNDS, IntegrationStats, Metrics


def test_a_request_counts_once_by_outcome_and_once_by_duration() -> None:
    """A finished request adds one to its outcome and one to its bucket."""
    stats = IntegrationStats("crm")
    stats.record("2xx", 0.004)
    stats.record("2xx", 0.004)
    stats.record("target_denied", 0.0001)
    assert stats.outcomes == {"2xx": 2, "target_denied": 1}
    assert sum(stats.buckets) == 3
    assert stats.buckets[BOUNDS.index(0.005)] == 2
    assert stats.seconds == pytest.approx(0.0081)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0010001, 1), (1.0, BOUNDS.index(1.0)), (30.0, len(BOUNDS) - 1), (30.1, len(BOUNDS))],
)
def test_an_upper_bound_is_inclusive(seconds: float, bucket: int) -> None:
    """A duration equal to a bound falls into its bucket, as `le` says; what is over the last bound into +Inf."""
    stats = IntegrationStats("crm")
    stats.record("2xx", seconds)
    assert [index for index, count in enumerate(stats.buckets) if count] == [bucket]


def test_an_integration_is_recorded_from_its_first_request() -> None:
    """Looking an integration up makes no series; a request does."""
    metrics = Metrics()
    stats = metrics.stats("crm")
    assert metrics.stats("crm") is stats
    assert list(metrics.recorded()) == []
    stats.record("2xx", 0.01)
    assert list(metrics.recorded()) == [stats]


def test_requests_of_no_known_integration_count_as_unknown() -> None:
    """`unknown` is a series of its own that no ID can name."""
    metrics = Metrics()
    metrics.unknown.record("integration_denied", 0.001)
    assert [stats.integration for stats in metrics.recorded()] == ["unknown"]


def test_calls_for_tokens_count_by_integration_and_outcome() -> None:
    """A series begins with its first call."""
    metrics = Metrics()
    metrics.count_call("crm", "ok")
    metrics.count_call("crm", "ok")
    metrics.count_call("crm", "refused")
    assert metrics.calls == {("crm", "ok"): 2, ("crm", "refused"): 1}
