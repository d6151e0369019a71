"""Consecutive failures, and limits of memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from weakref import ref

import pytest

from sidekey.errors import CALLER_GONE
from sidekey.observe.metrics import Metrics
from sidekey.observe.usage import MAX_INTEGRATIONS, FailureStreaks
from sidekey.policy.targets import parse_domain
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import FailingSince
from support.plane import integration


class Counters:
    """Counters with a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000
        self.metrics = Metrics()
        self.streaks = FailureStreaks(self.metrics, lambda: self.now)

    def serve(self, *integrations: Integration) -> None:
        """Publish these integrations."""
        self.metrics.prepare(Snapshot({integration.id: integration for integration in integrations}))()

    def request(
        self, outcome: str = "2xx", name: str = "crm", *, code: str = "", status: int = 200, host: str = ""
    ) -> None:
        """Count a request as the data plane does."""
        stats = self.metrics.stats(name)
        stats.record(outcome, 0.001)
        if code or status >= 400:
            self.streaks.record_failure(stats, code, status, host)


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.mark.parametrize(
    ("outcome", "code", "status"),
    [
        ("401", "", 401),
        ("403", "", 403),
        ("5xx", "", 503),
        ("upstream_timeout", "upstream_timeout", 504),
        ("upstream_unreachable", "upstream_unreachable", 502),
        ("credential_unavailable", "credential_unavailable", 502),
    ],
)
def test_three_failures_in_a_row_are_failing(counters: Counters, outcome: str, code: str, status: int) -> None:
    """The status begins with the first failure. A success ends it."""
    counters.request()
    start = counters.now
    for _ in range(2):
        counters.request(outcome, code=code, status=status)
        counters.now += 60
    assert failing_since(counters) is None
    counters.request(outcome, code=code, status=status)
    assert failing_since(counters) == start
    counters.request()
    assert failing_since(counters) is None
    for _ in range(3):
        counters.now += 60
        counters.request(outcome, code=code, status=status)
    assert failing_since(counters) == counters.now - 120


def failing_since(counters: Counters) -> int | None:
    failing = counters.streaks.failing().get("crm")
    return None if failing is None else failing.since


def test_changed_integration_is_not_failing(counters: Counters) -> None:
    """A reload that does not change the integration keeps its failures."""
    counters.serve(before := integration("crm", "https://crm.test"))
    for _ in range(3):
        counters.request("401", status=401)
    assert failing_since(counters) is not None
    counters.serve(before, integration("other", "https://other.test"))
    assert failing_since(counters) is not None
    del before
    counters.serve(integration("crm", "https://crm.test"))
    assert failing_since(counters) is None
    counters.now += 60
    start = counters.now
    for _ in range(2):
        counters.request("401", status=401)
    assert failing_since(counters) is None
    counters.request("401", status=401)
    assert failing_since(counters) == start


def test_replaced_integration_is_not_kept_alive(counters: Counters) -> None:
    """Integrations contain secrets."""
    counters.serve(before := integration("crm", "https://crm.test"))
    counters.request("401", status=401)
    reference = ref(before)
    del before
    counters.serve()
    gc.collect()
    assert reference() is None


def test_disconnected_callers_are_no_failures(counters: Counters) -> None:
    """They are no successes either."""
    for _ in range(3):
        counters.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert failing_since(counters) is None
    for _ in range(3):
        counters.request("5xx", status=500)
        counters.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert failing_since(counters) is not None


@pytest.mark.parametrize(("outcome", "status"), [("4xx", 404), ("400", 400), ("429", 429)])
def test_accepted_credential_ends_consecutive_failures(counters: Counters, outcome: str, status: int) -> None:
    for _ in range(2):
        counters.request("5xx", status=500)
    counters.request(outcome, status=status)
    counters.request("5xx", status=500)
    assert failing_since(counters) is None


def test_denied_connection_fails_at_once_unless_the_caller_chose_the_host(counters: Counters) -> None:
    """A success ends it. Callers choose the hosts below a wildcard."""
    exact = integration("crm", "https://crm.test")
    counters.serve(replace(exact, policy=replace(exact.policy, domains=(parse_domain("https://*.up.test"),))))
    counters.request("destination_denied", code="destination_denied", status=403, host="evil.up.test")
    assert counters.streaks.failing() == {}
    counters.request("destination_denied", code="destination_denied", status=403, host="crm.test")
    assert counters.streaks.failing() == {"crm": FailingSince(counters.now, denied=True)}
    counters.request()
    assert counters.streaks.failing() == {}


def test_number_of_remembered_integrations_is_limited(counters: Counters) -> None:
    for number in range(MAX_INTEGRATIONS + 10):
        for _ in range(3):
            counters.request("5xx", f"i{number}", status=500)
    assert list(counters.streaks.failing()) == [f"i{number}" for number in range(10, MAX_INTEGRATIONS + 10)]
