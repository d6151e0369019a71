"""observe/usage.py: failures one after another, and a bound on what is remembered."""

from __future__ import annotations

import gc
from weakref import ref

import pytest

from sidekey.errors import CALLER_GONE
from sidekey.observe.metrics import Metrics
from sidekey.observe.usage import MAX_INTEGRATIONS, Traffic
from sidekey.snapshot.snapshot import Integration, Snapshot
from support.plane import integration


class Day:
    """Counters, a clock, and what is remembered of them."""

    def __init__(self) -> None:
        self.now = 1_800_000_000
        self.metrics = Metrics()
        self.traffic = Traffic(self.metrics, lambda: self.now)

    def serve(self, *integrations: Integration) -> None:
        """Put a snapshot of these in use."""
        self.metrics.prepare(Snapshot({each.id: each for each in integrations}))()

    def request(self, outcome: str = "2xx", name: str = "crm", *, code: str = "", status: int = 200) -> None:
        """One request, as the data plane counts it."""
        stats = self.metrics.stats(name)
        stats.record(outcome, 0.001)
        if code or status >= 400:
            self.traffic.failed(stats, code, status)


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
def test_three_failures_one_after_another_are_failing(day: Day, outcome: str, code: str, status: int) -> None:
    """Since the first of them; one that succeeds ends it, without anything being noted of it."""
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
    return day.traffic.failing().get("crm")


def test_failures_of_what_it_was_tell_nothing_of_what_it_is(day: Day) -> None:
    """A change, such as of its secret, is another object; a reload that changes nothing of it is not."""
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


def test_what_was_changed_is_not_kept_for_its_failures(day: Day) -> None:
    """It holds secrets."""
    day.serve(before := integration("crm", "https://crm.test"))
    day.request("401", status=401)
    gone = ref(before)
    del before
    day.serve()
    gc.collect()
    assert gone() is None


def test_callers_who_leave_do_not_make_it_fail(day: Day) -> None:
    """They count neither as a failure nor as a success."""
    for _ in range(3):
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is None
    for _ in range(3):
        day.request("5xx", status=500)
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is not None


@pytest.mark.parametrize(("outcome", "status"), [("4xx", 404), ("400", 400), ("429", 429)])
def test_what_tells_nothing_of_the_integration_ends_a_row_of_failures(day: Day, outcome: str, status: int) -> None:
    for _ in range(2):
        day.request("5xx", status=500)
    day.request(outcome, status=status)
    day.request("5xx", status=500)
    assert _since(day) is None


def test_so_many_integrations_are_remembered(day: Day) -> None:
    """Those that failed last."""
    for number in range(MAX_INTEGRATIONS + 10):
        for _ in range(3):
            day.request("5xx", f"i{number}", status=500)
    assert list(day.traffic.failing()) == [f"i{number}" for number in range(10, MAX_INTEGRATIONS + 10)]
