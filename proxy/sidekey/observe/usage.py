"""Usage of this process, and integrations whose requests fail.

`Usage` computes how much each counter grew since it was last written, so that the processes of a fleet can add up their
usage. `Traffic` counts failures in a row for each integration.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from math import inf
from operator import sub
from typing import Final
from weakref import ref

from sidekey.observe.metrics import BOUNDS, UNKNOWN, IntegrationStats, Metrics
from sidekey.snapshot.snapshot import NOBODY, Integration
from sidekey.snapshot.status import FAILING
from sidekey.store.usage import LATENCY, NONE, OUTCOMES, Counters

_GOOD: Final = frozenset({"1xx", "2xx", "3xx"})

_COLUMNS: Final[Mapping[str, str]] = {
    "400": "s4xx",
    "401": "s401_403",
    "403": "s401_403",
    "429": "s429",
    "4xx": "s4xx",
    "5xx": "s5xx",
    "upstream_unreachable": "unreachable",
    "upstream_tls_failed": "tls",
    "upstream_protocol_error": "protocol",
    "upstream_timeout": "timeout",
    "credential_unavailable": "credential",
}
"""Column of each outcome of a failed request. Other outcomes, such as a denied request, count in column `other`."""

_COLUMN_INDEXES: Final = {outcome: OUTCOMES.index(column) for outcome, column in _COLUMNS.items()}
_OTHER: Final = OUTCOMES.index("other")

LIMITS: Final = (0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the duration columns, in seconds."""

_BUCKETS: Final = tuple(bisect_left(LIMITS, bound) for bound in (*BOUNDS, inf))
"""Duration column of each bucket of the metrics."""


class Usage:
    """Growth of the counters of this process since they were last written."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._written: dict[tuple[str, str], Counters] = {}

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yield kind and ID of integrations and presets with counters. Requests may count between two steps."""
        number = 0
        for stats in self._metrics.recorded():
            if stats.integration not in (NOBODY, UNKNOWN):
                number += 1
                yield "integration", stats.integration
        for name in list(self._metrics.presets):
            if name != UNKNOWN:
                number += 1
                yield "preset", name
        if len(self._written) > number:
            # The config lost some IDs.
            self._written = {key: counters for key, counters in self._written.items() if self._counted(*key)[0]}

    def unwritten(self, kind: str, name: str) -> tuple[Counters, Counters]:
        """Return the growth since the last write, and the counters to pass to `note_written` after the next write."""
        written = self._written.get((kind, name), NONE)
        outcomes, buckets = self._counted(kind, name)
        if sum(outcomes.values()) == written[0]:
            return NONE, written
        counters = _counters(outcomes, buckets)
        if counters[0] < written[0]:
            # The config lost the ID for a while, so the counters restarted.
            return counters, counters
        return tuple(map(sub, counters, written)), counters

    def note_written(self, kind: str, name: str, counters: Counters) -> None:
        """Record that these counters were written."""
        self._written[kind, name] = counters

    def _counted(self, kind: str, name: str) -> tuple[Mapping[str, int], list[int]]:
        if kind == "preset":
            return self._metrics.presets.get(name, {}), []
        stats = self._metrics.counted(name)
        return ({}, []) if stats is None else (stats.outcomes, stats.buckets)


def _counters(outcomes: Mapping[str, int], buckets: list[int]) -> Counters:
    columns = [0] * len(OUTCOMES)
    # A copy: the API reads it in a thread.
    for outcome, count in list(outcomes.items()):
        if outcome not in _GOOD:
            columns[_COLUMN_INDEXES.get(outcome, _OTHER)] += count
    latency = [0] * len(LATENCY)
    for column, count in zip(_BUCKETS, buckets, strict=False):
        latency[column] += count
    return sum(outcomes.values()), sum(columns), *columns, *latency


MAX_INTEGRATIONS: Final = 1000
"""Integrations whose failures are remembered."""

_FAILURES: Final = frozenset(
    {
        "credential_unavailable",
        "upstream_unreachable",
        "upstream_tls_failed",
        "upstream_protocol_error",
        "upstream_timeout",
    }
)
"""Sidekey's codes that blame the upstream, the network or the credential. Other codes blame the caller, the policy or
Sidekey, and do not count against the integration."""

_REJECTED: Final = (401, 403)
"""Statuses below 500 that blame the credential."""


class _Record:
    """The failures of one integration."""

    __slots__ = ("failed_at", "good", "of", "since", "streak")

    def __init__(self) -> None:
        self.good = 0
        """Number of good requests at the last failure."""
        self.streak = 0
        self.since = 0
        self.failed_at = 0
        self.of: ref[Integration] | None = None
        """The integration at the last failure. A changed integration is a new object, and its failures start at 0."""


class Traffic:
    """Failures in a row, by integration. `wall` returns the Unix time."""

    def __init__(self, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def failed(self, stats: IntegrationStats, code: str, status: int) -> None:
        """Record a failed request, after its outcome was counted."""
        if not (code in _FAILURES if code else status >= 500 or status in _REJECTED):
            return
        now = int(self._wall())
        record = self._record(stats.integration)
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
        """Return the Unix time since when each failing integration fails, for at most `MAX_INTEGRATIONS`."""
        return {name: since for name in self._records if (since := self.failures_of(name)[0])}

    def failures_of(self, name: str) -> tuple[int, int]:
        """Return since when an integration is failing (0: it is not), and the time of its last failure."""
        record = self._records.get(name)
        if record is None:
            return 0, 0
        failing = record.streak >= FAILING and self._is_current(name, record)
        return record.since if failing else 0, record.failed_at

    def _is_current(self, name: str, record: _Record) -> bool:
        """Return True if the integration is unchanged and had no good request since its last failure."""
        stats = self._metrics.counted(name)
        return stats is not None and _good(stats) == record.good and self._is_of_now(name, record)

    def _is_of_now(self, name: str, record: _Record) -> bool:
        return (None if record.of is None else record.of()) is self._metrics.integrations.get(name)

    def _record(self, integration: str) -> _Record:
        record = self._records.setdefault(integration, _Record())
        self._records.move_to_end(integration)
        if len(self._records) > MAX_INTEGRATIONS:
            self._records.popitem(last=False)
        return record


def _good(stats: IntegrationStats) -> int:
    """Count requests that reached the upstream and whose credential was not rejected, such as 404 and 429."""
    outcomes = stats.outcomes
    return sum(outcomes.get(outcome, 0) for outcome in ("1xx", "2xx", "3xx", "4xx", "400", "429"))
