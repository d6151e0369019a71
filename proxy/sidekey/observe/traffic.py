"""What each integration's requests of the last day were like, for people: of this process, since its start.

Nothing is added to a request that succeeds: the counters there are are looked at each minute, and only failures are
told one by one. At most `MOST` integrations are remembered, those that were used last.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple
from weakref import ref

from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.runtime.snapshot import Integration
from sidekey.runtime.standing import FAILING

SLOT: Final = 1800
"""Seconds of a slot."""

SLOTS: Final = 48
"""A day."""

EVERY: Final = 60.0
"""Seconds between two looks at the counters."""

MOST: Final = 1000
"""Integrations that are remembered. One takes at most 4 KiB."""

ERRORS: Final = 20
"""Failures of an integration that are remembered."""

_FAILURES: Final = frozenset(
    {
        "credential_unavailable",
        "upstream_unreachable",
        "upstream_tls_failed",
        "upstream_protocol_error",
        "upstream_timeout",
    }
)
"""Codes of Sidekey's own that blame the upstream, the network or the credential. All others blame the caller, the
policy or Sidekey, and say nothing about the integration."""

_REJECTED: Final = (401, 403)
"""Statuses below 500 that blame the credential."""

_AT_ONCE: Final = 200
"""Integrations that are looked at before others have the loop again."""


class Failure(NamedTuple):
    """A request that failed: when (seconds since the epoch), our code or "", and the upstream's status or ours."""

    at: int
    code: str
    status: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What an integration's requests were like.

    `requests` and `failures` are of the slots of the last day, the oldest first; `used_at` is to the minute, in seconds
    since the epoch. `errors` are from the newest on.
    """

    requests: tuple[int, ...]
    failures: tuple[int, ...]
    used_at: int
    errors: tuple[Failure, ...]


class _Record:
    """Of one integration. `slot` is the number of the newest slot since the epoch."""

    __slots__ = (
        "errors",
        "failed_at",
        "failures",
        "good",
        "of",
        "requests",
        "since",
        "slot",
        "streak",
        "total",
        "used_at",
    )

    def __init__(self, slot: int) -> None:
        self.requests = array("I", bytes(SLOTS * 4))
        self.failures = array("I", bytes(SLOTS * 4))
        self.errors: deque[Failure] = deque(maxlen=ERRORS)
        self.slot = slot
        self.total = 0
        self.good = 0
        """Requests that did not fail, as of the last failure."""
        self.streak = 0
        self.since = 0
        self.failed_at = 0
        """The last failure that counts."""
        self.of: ref[Integration] | None = None
        """What the last failures were of: changed, it is another object, and they tell nothing of it."""
        self.used_at = 0

    def turn_to(self, slot: int) -> None:
        """Let the slots since the newest one begin at nothing."""
        for number in range(max(self.slot + 1, slot - SLOTS + 1), slot + 1):
            self.requests[number % SLOTS] = self.failures[number % SLOTS] = 0
        self.slot = max(self.slot, slot)


class Traffic:
    """Remembers what requests were like. `wall` gives seconds since the epoch."""

    def __init__(self, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._totals: dict[str, int] = {}
        """What was counted of those that are not remembered any more: without it, all of it would count as new."""

    async def watch(self) -> None:
        """Look at the counters each minute, for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Take what has been counted since the last look."""
        now = int(self._wall())
        found = list(self._metrics.recorded())
        for number, stats in enumerate(found):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            self._take(stats, now)
        if self._totals:
            for name in self._totals.keys() - {stats.integration for stats in found}:
                del self._totals[name]

    def _take(self, stats: IntegrationStats, now: int) -> None:
        total = sum(stats.outcomes.values())
        record = self._records.get(stats.integration)
        known = self._totals.get(stats.integration, 0) if record is None else record.total
        if known != total:
            record = self._record(stats.integration, now)
            # Fewer than before: the integration was away for a while, and its counters began again.
            record.requests[record.slot % SLOTS] += total - known if total > known else total
            record.total = total
            record.used_at = now

    def failed(self, stats: IntegrationStats, code: str, status: int) -> None:
        """Note a request that failed; its outcome is counted already."""
        now = int(self._wall())
        record = self._record(stats.integration, now)
        record.errors.appendleft(Failure(now, code, status))
        counts = code in _FAILURES if code else status >= 500 or status in _REJECTED
        if not counts:
            return
        record.failures[record.slot % SLOTS] += 1
        record.failed_at = now
        good = _good(stats)
        if good != record.good or not self._is_of_now(stats.integration, record):
            record.streak = 0
        if record.streak == 0:
            integration = self._metrics.integrations.get(stats.integration)
            record.of = None if integration is None else ref(integration)
            record.good, record.since = good, now
        record.streak += 1

    def failing(self) -> dict[str, int]:
        """The integrations that are failing, and since when (seconds since the epoch).

        Of at most `MOST`, so that it is asked for with each page and scrape.
        """
        return {
            name: record.since
            for name, record in self._records.items()
            if record.streak >= FAILING and self._goes_on(name, record)
        }

    def failures_of(self, name: str) -> tuple[int, int]:
        """Return since when an integration is failing (0: it is not), and the time of its last failure."""
        record = self._records.get(name)
        if record is None:
            return 0, 0
        failing = record.streak >= FAILING and self._goes_on(name, record)
        return record.since if failing else 0, record.failed_at

    def _goes_on(self, name: str, record: _Record) -> bool:
        """Whether nothing has succeeded since the last failure, and it is what it was then."""
        stats = self._metrics.counted(name)
        return stats is not None and _good(stats) == record.good and self._is_of_now(name, record)

    def _is_of_now(self, name: str, record: _Record) -> bool:
        return (None if record.of is None else record.of()) is self._metrics.integrations.get(name)

    def of(self, integration: str) -> Seen | None:
        """What is remembered of an integration, and counted by now; None: nothing."""
        stats, now = self._metrics.counted(integration), int(self._wall())
        if stats is not None:
            self._take(stats, now)
        record = self._records.get(integration)
        if record is None:
            return None
        record.turn_to(now // SLOT)
        order = [number % SLOTS for number in range(record.slot - SLOTS + 1, record.slot + 1)]
        return Seen(
            tuple(record.requests[each] for each in order),
            tuple(record.failures[each] for each in order),
            record.used_at,
            tuple(record.errors),
        )

    def _record(self, integration: str, now: int) -> _Record:
        record = self._records.get(integration)
        if record is None:
            record = self._records[integration] = _Record(now // SLOT)
            record.total = self._totals.pop(integration, 0)
            if len(self._records) > MOST:
                name, forgotten = self._records.popitem(last=False)
                self._totals[name] = forgotten.total
        else:
            self._records.move_to_end(integration)
        record.turn_to(now // SLOT)
        return record


def _good(stats: IntegrationStats) -> int:
    """How many requests did not fail in a way that tells of the integration.

    An upstream that responds with 404 or 429 was reached, and did not reject the credential.
    """
    outcomes = stats.outcomes
    return sum(outcomes.get(outcome, 0) for outcome in ("1xx", "2xx", "3xx", "4xx", "400", "429"))
