"""Counters of requests, credentials, callers and presets."""

from __future__ import annotations

import pytest

from sidekey.observe.metrics import BOUNDS, CredentialSeries, IntegrationStats, Metrics
from sidekey.snapshot.snapshot import Snapshot
from support.plane import callers_of, integration
from support.presets import preset


def test_request_counts_by_outcome_and_by_duration() -> None:
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
def test_upper_bound_is_inclusive(seconds: float, bucket: int) -> None:
    stats = IntegrationStats("crm")
    stats.record("2xx", seconds)
    assert [index for index, count in enumerate(stats.buckets) if count] == [bucket]


def test_integration_is_recorded_from_its_first_request() -> None:
    metrics = Metrics()
    stats = metrics.stats("crm")
    assert metrics.stats("crm") is stats
    assert list(metrics.used_stats()) == []
    stats.record("2xx", 0.01)
    assert list(metrics.used_stats()) == [stats]


def test_requests_of_no_known_integration_count_as_unknown() -> None:
    metrics = Metrics()
    metrics.unknown.record("integration_denied", 0.001)
    assert [stats.integration for stats in metrics.used_stats()] == ["unknown"]


def test_passed_requests_have_the_label_of_no_integration() -> None:
    metrics = Metrics()
    metrics.passed.record("2xx", 0.001)
    assert [stats.integration for stats in metrics.used_stats()] == ["-"]


def test_token_requests_count_by_integration_and_outcome() -> None:
    metrics = Metrics()
    series = CredentialSeries(metrics, "crm", "token")
    assert metrics.calls == {}
    for outcome in ("ok", "ok", "refused"):
        series.count_call(outcome)
    assert metrics.calls == {("crm", "ok"): 2, ("crm", "refused"): 1}


def test_credential_has_an_expiry_series() -> None:
    metrics = Metrics()
    series = CredentialSeries(metrics, "crm", "certificate")
    series.count_failures(0)
    assert metrics.reload_failures == {("crm", "certificate"): 0}
    series.set_expiry(5.0)
    assert metrics.expiries == {("crm", "certificate"): 5.0}
    series.set_expiry(None)
    assert metrics.expiries == {}


def test_retired_source_does_not_write_to_the_series_of_its_successor() -> None:
    metrics = Metrics()
    old, new = (CredentialSeries(metrics, "crm", "token") for _ in range(2))
    old.set_expiry(5.0)
    old.count_call("ok")
    old.count_failures(1)
    old.retire()
    assert metrics.expiries == {}
    new.set_expiry(9.0)
    new.count_call("ok")
    old.set_expiry(5.0)
    old.set_expiry(None)
    old.count_call("ok")
    old.count_failures(1)
    assert metrics.expiries == {("crm", "token"): 9.0}
    assert (metrics.calls["crm", "ok"], metrics.reload_failures["crm", "token"]) == (2, 1)


def test_retired_source_counts_token_requests_if_its_integration_exists() -> None:
    metrics = Metrics()
    old = CredentialSeries(metrics, "crm", "token")
    metrics.prepare(Snapshot(integrations={"crm": integration("crm", "https://a.test/api")}))()
    old.retire()
    old.count_call("ok")
    assert metrics.calls == {("crm", "ok"): 1}
    metrics.prepare(Snapshot(integrations={}))()
    old.count_call("ok")
    assert metrics.calls == {}


def test_removed_integration_has_no_series() -> None:
    """Requests in flight of the integration create no series."""
    metrics = Metrics()
    known_stats, removed_stats = metrics.stats("stays"), metrics.stats("goes")
    for stats in (known_stats, removed_stats, metrics.unknown, metrics.passed):
        stats.record("2xx", 0.01)
    for name in ("stays", "goes"):
        series = CredentialSeries(metrics, name, "token")
        series.count_call("ok")
        series.count_failures(1)
        series.set_expiry(5.0)
    known = {"stays": integration("stays", "https://a.test/api")}
    metrics.prepare(Snapshot(integrations=known))()
    removed_stats.record("2xx", 0.01)
    assert metrics.integrations is known
    assert [stats.integration for stats in metrics.used_stats()] == ["stays", "-", "unknown"]
    assert metrics.stats("stays") is known_stats
    for series in (metrics.calls, metrics.expiries, metrics.reload_failures):
        assert {name for name, _ in series} == {"stays"}
    assert metrics.stats("goes").outcomes == {}


def test_connects_and_denials_are_removed_with_their_integration() -> None:
    metrics = Metrics()
    known_stats, removed_stats = metrics.stats("stays"), metrics.stats("goes")
    for stats in (known_stats, removed_stats, metrics.unknown):
        stats.count_connect("ok")
        stats.count_denial("outside_prefix")
    metrics.prepare(Snapshot(integrations={"stays": integration("stays", "https://a.test/api")}))()
    removed_stats.count_connect("ok")
    known_stats.count_connect("ok")
    known_stats.count_denial("trace")
    counts = {stats.integration: (stats.connects, stats.denials) for stats in metrics.all_stats() if stats.connects}
    assert counts == {
        "stays": ({"ok": 2}, {"outside_prefix": 1, "trace": 1}),
        "unknown": ({"ok": 1}, {"outside_prefix": 1}),
    }


def test_removed_caller_has_no_series() -> None:
    metrics = Metrics()
    known = callers_of({"a": None, "b": None})
    metrics.prepare(Snapshot(integrations={}, callers=known))()
    for caller, outcome in (("caller0", "2xx"), ("caller1", "2xx"), ("caller1", "401"), ("stranger", "2xx")):
        metrics.count_caller(caller, outcome)
    assert metrics.callers == {"caller0": {"2xx": 1}, "caller1": {"2xx": 1, "401": 1}}
    metrics.prepare(Snapshot(integrations={}, callers=callers_of({"a": None})))()
    metrics.count_caller("caller0", "2xx")
    metrics.count_caller("caller1", "2xx")
    assert metrics.callers == {"caller0": {"2xx": 2}}
    metrics.prepare(Snapshot(integrations={}))()
    assert metrics.callers == {}


def test_removed_preset_has_no_series() -> None:
    """Denied requests for unknown presets still count."""
    metrics = Metrics()
    metrics.prepare(Snapshot(integrations={}, presets={name: preset(name) for name in ("stays", "goes")}))()
    for name in ("stays", "goes", "unknown"):
        metrics.count_preset(name, "2xx")
    assert metrics.presets == {"stays": {"2xx": 1}, "goes": {"2xx": 1}, "unknown": {"2xx": 1}}
    metrics.prepare(Snapshot(integrations={}, presets={"stays": preset("stays")}))()
    metrics.count_preset("goes", "2xx")
    assert metrics.presets == {"stays": {"2xx": 1}, "unknown": {"2xx": 1}}
