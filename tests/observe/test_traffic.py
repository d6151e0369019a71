"""observe/traffic.py: slots of a day, failures one after another, and a bound on what is remembered."""

from __future__ import annotations

import gc
import sys
from weakref import ref

import pytest

from sidekey.errors import CALLER_GONE
from sidekey.observe.metrics import Metrics
from sidekey.observe.traffic import ERRORS, MOST, SLOT, SLOTS, Failure, Traffic
from sidekey.runtime.snapshot import Integration, Snapshot
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


async def test_requests_fall_into_slots_of_half_an_hour(day: Day) -> None:
    """The newest is the last; after a day they are gone."""
    for count in (3, 5):
        for _ in range(count):
            day.request()
        await day.traffic.look()
        day.now += SLOT
    seen = day.traffic.of("crm")
    assert seen is not None
    assert seen.requests[-3:] == (3, 5, 0)
    assert (len(seen.requests), sum(seen.requests), sum(seen.failures)) == (SLOTS, 8, 0)
    assert seen.used_at == day.now - SLOT
    day.now += SLOT * SLOTS
    seen = day.traffic.of("crm")
    assert seen is not None
    assert sum(seen.requests) == 0


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
    seen = day.traffic.of("crm")
    assert seen is not None
    assert len(seen.errors) == 6


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
    """They are listed, neither as a failure nor as a success."""
    for _ in range(3):
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is None
    for _ in range(3):
        day.request("5xx", status=500)
        day.request(CALLER_GONE, code=CALLER_GONE, status=0)
    assert _since(day) is not None
    seen = day.traffic.of("crm")
    assert seen is not None
    assert (sum(seen.failures), len(seen.errors)) == (3, 9)


@pytest.mark.parametrize(("outcome", "status"), [("4xx", 404), ("400", 400), ("429", 429)])
def test_what_tells_nothing_of_the_integration_ends_a_row_of_failures(day: Day, outcome: str, status: int) -> None:
    """It is an error for people to see all the same."""
    for _ in range(2):
        day.request("5xx", status=500)
    day.request(outcome, status=status)
    day.request("5xx", status=500)
    seen = day.traffic.of("crm")
    assert seen is not None
    assert _since(day) is None
    assert [each.status for each in seen.errors] == [500, status, 500, 500]
    assert sum(seen.failures) == 3


def test_the_last_errors_are_remembered(day: Day) -> None:
    """Time, code and status; no path."""
    for number in range(ERRORS + 5):
        day.now += 1
        day.request("5xx", status=500 + number)
    seen = day.traffic.of("crm")
    assert seen is not None
    assert len(seen.errors) == ERRORS
    assert seen.errors[0] == Failure(day.now, "", 500 + ERRORS + 4)


async def test_those_that_were_used_last_are_remembered_within_the_bound_on_memory(day: Day) -> None:
    """Each with all that it may have: 4 MB."""
    for number in range(MOST + 10):
        for _ in range(ERRORS):
            day.request("5xx", f"i{number}", status=500)
    await day.traffic.look()
    assert day.traffic.of("never") is None
    assert len(day.traffic._records) == MOST
    record = day.traffic._records[f"i{MOST}"]
    size = sum(sys.getsizeof(each) for each in (record.requests, record.failures, record.errors, *record.errors))
    assert size * MOST < 4 << 20


async def test_counters_that_began_again_count_from_nothing(day: Day) -> None:
    """An integration that was deleted and made again."""
    for _ in range(5):
        day.request()
    await day.traffic.look()
    day.metrics._stats.clear()
    day.request()
    seen = day.traffic.of("crm")
    assert seen is not None
    assert sum(seen.requests) == 6


async def test_what_was_counted_of_others_long_ago_is_not_new(day: Day) -> None:
    """More integrations than are remembered, of which one is in use: the others are neither used now nor in its way."""
    for number in range(MOST + 10):
        day.request(name=f"i{number}")
        day.request(name=f"i{number}")
    await day.traffic.look()
    looked, day.now = day.now, day.now + SLOT
    day.request(name="i0")
    for _ in range(3):
        await day.traffic.look()
    first, last = day.traffic.of("i0"), day.traffic.of(f"i{MOST + 9}")
    assert first is not None
    assert last is not None
    assert (sum(first.requests), first.used_at) == (1, day.now)
    assert (sum(last.requests), last.used_at) == (2, looked)
    assert day.traffic.of("i1") is None
    day.metrics._stats.clear()
    await day.traffic.look()
    assert day.traffic._totals == {}
