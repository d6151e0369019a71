"""Failures in a row, and bounds on memory."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from sidekey.errors import CALLER_GONE
from sidekey.observe.metrics import Metrics
from sidekey.observe.usage import MAX_INTEGRATIONS, FailureStreaks
from sidekey.snapshot.snapshot import Integration, Snapshot
from support.plane import integration


class Day:
    """Counters, a clock, and the failure streaks."""

    def __init__(self) -> None:
        self.now = 1_800_000_000
        self.metrics = Metrics()
        self.streaks = FailureStreaks(self.metrics, lambda: self.now)

    def serve(self, *integrations: Integration) -> None:
        """Use a snapshot of these integrations."""
        self.metrics.prepare(Snapshot({each.id: each for each in integrations}))()

    def request(self, outcome: str = "2xx", name: str = "crm", *, code: str = "", status: int = 200) -> None:
        """Count a request as the data plane does."""
        stats = self.metrics.stats(name)
        stats.record(outcome, 0.001)
        if code or status >= 400:
            self.streaks.record_failure(stats, code, status)


@pytest.fixture
def day() -> Day:
    return Day()


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
def test_three_failures_in_a_row_are_failing(day: Day, outcome: str, code: str, status: int) -> None:
    """Since the first. A success ends the row."""
    day.request()
    began = day.now
    for _ in range(2):
        day.request(outcome, code=code, status=status)
        day.now += 60
    assert _since(day) is None
    day.request(outcome, code=code, status=status)
    assert _since(day) == began
    day.request()
    assert _since(day) is None
    for _ in range(3):
        day.now += 60
        day.request(outcome, code=code, status=status)
    assert _since(day) == day.now - 120


def _since(day: Day) -> int | None:
    return day.streaks.failing().get("crm")


def test_changed_integration_is_not_failing(day: Day) -> None:
    """A reload that does not change the integration keeps its failures."""
    day.serve(before := integration("crm", "https://crm.test"))
    for _ in range(3):
        day.request("401", status=401)
    assert _since(day) is not None
    day.serve(before, integration("other", "https://other.test"))
    assert _since(day) is not None
    del before
    day.serve(integration("crm", "https://crm.test"))
    assert _since(day) is None
    day.now += 60
    began = day.now
    for _ in range(2):
        day.request("401", status=401)
    assert _since(day) is None
    day.request("401", status=401)
    assert _since(day) == began


def test_replaced_integration_is_not_kept_alive(day: Day) -> None:
    """It holds secrets."""
    day.serve(before := integration("crm", "https://crm.test"))
    day.request("401", status=401)
    gone = ref(before)
    del before
    day.serve()
    gc.collect()
    assert gone() is None


def test_disconnected_callers_are_no_failures(day: Day) -> None:
    """Nor are they successes."""
    for _ in range(3):
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is None
    for _ in range(3):
        day.request("5xx", status=500)
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is not None


@pytest.mark.parametrize(("outcome", "status"), [("4xx", 404), ("400", 400), ("429", 429)])
def test_response_that_accepts_the_credential_ends_a_row_of_failures(day: Day, outcome: str, status: int) -> None:
    for _ in range(2):
        day.request("5xx", status=500)
    day.request(outcome, status=status)
    day.request("5xx", status=500)
    assert _since(day) is None


def test_number_of_remembered_integrations_is_limited(day: Day) -> None:
    for number in range(MAX_INTEGRATIONS + 10):
        for _ in range(3):
            day.request("5xx", f"i{number}", status=500)
    assert list(day.streaks.failing()) == [f"i{number}" for number in range(10, MAX_INTEGRATIONS + 10)]
