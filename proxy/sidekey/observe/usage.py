"""Usage of this process, and integrations whose requests fail.

`Usage` computes how much each counter grew since it was last written, so that the processes of a fleet can add up their
usage. `FailureStreaks` counts failures in a row for each integration.
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
from sidekey.snapshot.snapshot import NO_INTEGRATION, Integration
from sidekey.snapshot.status import FAILING_AFTER, FailingSince
from sidekey.store.usage import LATENCY, NONE, OUTCOMES, Counters

_NOT_FAILED: Final = frozenset({"1xx", "2xx", "3xx"})

_COLUMN_BY_OUTCOME: Final[Mapping[str, str]] = {
    "400": "s4xx",
    "401": "s401_403",
    "403": "s401_403",
    "429": "s429",
    "4xx": "s4xx",
    "5xx": "s5xx",
    "upstream_unreachable": "unreachable",
    "parent_proxy_failed": "unreachable",
    "upstream_tls_failed": "tls",
    "upstream_protocol_error": "protocol",
    "upstream_timeout": "timeout",
    "credential_unavailable": "credential",
}
"""Column of each outcome of a failed request. Other outcomes, such as a denied request, count in column `other`."""

_INDEX_BY_OUTCOME: Final = {outcome: OUTCOMES.index(column) for outcome, column in _COLUMN_BY_OUTCOME.items()}
_OTHER_INDEX: Final = OUTCOMES.index("other")

DURATION_BOUNDS: Final = (0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the duration columns, in seconds."""

_COLUMN_BY_BUCKET: Final = tuple(bisect_left(DURATION_BOUNDS, bound) for bound in (*BOUNDS, inf))
"""Duration column of each bucket of the metrics."""


class Usage:
    """Growth of the counters of this process since they were last written."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._written: dict[tuple[str, str], Counters] = {}

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yield kind and ID of integrations and presets with counters. Requests may change them between two steps."""
        number = 0
        for stats in self._metrics.used_stats():
            if stats.integration not in (NO_INTEGRATION, UNKNOWN):
                number += 1
                yield "integration", stats.integration
        for name in list(self._metrics.presets):
            if name != UNKNOWN:
                number += 1
                yield "preset", name
        if len(self._written) > number:
            # The config lost some IDs.
            self._written = {key: counters for key, counters in self._written.items() if self._read_counters(*key)[0]}

    def unwritten(self, kind: str, name: str) -> tuple[Counters, Counters]:
        """Return the growth since the last write, and the total to pass to `note_written` once that is written."""
        written = self._written.get((kind, name), NONE)
        outcomes, buckets = self._read_counters(kind, name)
        if sum(outcomes.values()) == written[0]:
            return NONE, written
        counters = _to_columns(outcomes, buckets)
        if counters[0] < written[0]:
            # The config lost the ID for a while, so the counters restarted.
            return counters, counters
        return tuple(map(sub, counters, written)), counters

    def note_written(self, kind: str, name: str, counters: Counters) -> None:
        """Record that the growth up to these counters was written."""
        self._written[kind, name] = counters

    def _read_counters(self, kind: str, name: str) -> tuple[Mapping[str, int], list[int]]:
        if kind == "preset":
            return self._metrics.presets.get(name, {}), []
        stats = self._metrics.find_stats(name)
        return ({}, []) if stats is None else (stats.outcomes, stats.buckets)


def _to_columns(outcomes: Mapping[str, int], buckets: list[int]) -> Counters:
    columns = [0] * len(OUTCOMES)
    # A copy: the API reads it in a thread.
    for outcome, count in list(outcomes.items()):
        if outcome not in _NOT_FAILED:
            columns[_INDEX_BY_OUTCOME.get(outcome, _OTHER_INDEX)] += count
    latency = [0] * len(LATENCY)
    for column, count in zip(_COLUMN_BY_BUCKET, buckets, strict=False):
        latency[column] += count
    return sum(outcomes.values()), sum(columns), *columns, *latency


MAX_INTEGRATIONS: Final = 1000
"""Maximum integrations with a streak. The one that failed longest ago is evicted."""

_FAILURES: Final = frozenset(
    {
        "credential_unavailable",
        "upstream_unreachable",
        "parent_proxy_failed",
        "upstream_tls_failed",
        "upstream_protocol_error",
        "upstream_timeout",
    }
)
"""Sidekey's codes that blame the upstream, the network or the credential. Other codes blame the caller, the policy or
Sidekey, and do not count against the integration."""

_DENIED: Final = "destination_denied"
"""The code of a connection that Sidekey may not make. One is enough, because it does not depend on the upstream."""

_REJECTED: Final = (401, 403)
"""Statuses below 500 that blame the credential."""


class _Streak:
    """Failures of one integration without a success in between. Times are Unix time.

    `successes` is the number of its successes at the last failure: if the number has grown, the streak is over.
    `integration` is the object at the first failure: a changed integration is a new object, and starts at 0. `denied`:
    Sidekey denied the last connection.
    """

    __slots__ = ("denied", "failed_at", "integration", "length", "since", "successes")

    def __init__(self) -> None:
        self.successes = 0
        self.length = 0
        self.since = 0
        self.denied = False
        self.failed_at = 0
        self.integration: ref[Integration] | None = None


class FailureStreaks:
    """The current streak of failures of each integration. `wall` returns the Unix time."""

    def __init__(self, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._streaks: OrderedDict[str, _Streak] = OrderedDict()

    def record_failure(self, stats: IntegrationStats, code: str, status: int, host: str = "") -> None:
        """Extend the streak if the failure blames the integration. Call it after the outcome was counted.

        `host` is the host of the target.
        """
        denied = code == _DENIED and self._is_configured(stats.integration, host)
        if not (denied or (code in _FAILURES if code else status >= 500 or status in _REJECTED)):
            return
        now = int(self._wall())
        streak = self._streak_of(stats.integration)
        streak.failed_at = now
        successes = _count_successes(stats)
        if successes != streak.successes or not self._has_same_integration(stats.integration, streak):
            streak.length = 0
        if streak.length == 0:
            integration = self._metrics.integrations.get(stats.integration)
            streak.integration = None if integration is None else ref(integration)
            streak.successes, streak.since = successes, now
        streak.length += FAILING_AFTER if denied else 1
        streak.denied = denied

    def failing(self) -> dict[str, FailingSince]:
        """Return when the streak of each failing integration began, for at most `MAX_INTEGRATIONS`."""
        return {
            name: FailingSince(since, self.is_denied(name))
            for name in self._streaks
            if (since := self.failure_times(name)[0])
        }

    def is_denied(self, name: str) -> bool:
        """Return True if Sidekey denied the last connection of the streak."""
        streak = self._streaks.get(name)
        return streak is not None and streak.denied

    def failure_times(self, name: str) -> tuple[int, int]:
        """Return when the integration began to fail (0: it is not failing), and when it last failed (0: never)."""
        streak = self._streaks.get(name)
        if streak is None:
            return 0, 0
        failing = streak.length >= FAILING_AFTER and self._is_unbroken(name, streak)
        return streak.since if failing else 0, streak.failed_at

    def _is_configured(self, name: str, host: str) -> bool:
        """Return True if the integration names the host. Callers choose the hosts below a wildcard."""
        integration = self._metrics.integrations.get(name)
        return integration is not None and integration.egress_for(host) is integration.egress

    def _is_unbroken(self, name: str, streak: _Streak) -> bool:
        """Return True if the integration is unchanged and had no success since its last failure."""
        stats = self._metrics.find_stats(name)
        if stats is None or _count_successes(stats) != streak.successes:
            return False
        return self._has_same_integration(name, streak)

    def _has_same_integration(self, name: str, streak: _Streak) -> bool:
        return (None if streak.integration is None else streak.integration()) is self._metrics.integrations.get(name)

    def _streak_of(self, integration: str) -> _Streak:
        streak = self._streaks.setdefault(integration, _Streak())
        self._streaks.move_to_end(integration)
        if len(self._streaks) > MAX_INTEGRATIONS:
            self._streaks.popitem(last=False)
        return streak


def _count_successes(stats: IntegrationStats) -> int:
    """Count requests that reached the upstream and whose credential was not rejected, such as 404 and 429."""
    outcomes = stats.outcomes
    return sum(outcomes.get(outcome, 0) for outcome in ("1xx", "2xx", "3xx", "4xx", "400", "429"))
