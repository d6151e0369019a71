"""The counters of this process, as usage that is added to that of other processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from math import inf
from operator import sub
from typing import Final

from sidekey.observe.metrics import BOUNDS, UNKNOWN, Metrics
from sidekey.runtime.snapshot import NOBODY
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
"""Column of each outcome of a failed request. Others, such as a denied request, are in the column `other`."""

_PLACES: Final = {outcome: OUTCOMES.index(column) for outcome, column in _COLUMNS.items()}
_OTHER: Final = OUTCOMES.index("other")

LIMITS: Final = (0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the columns of durations, in seconds."""

_BUCKETS: Final = tuple(bisect_left(LIMITS, bound) for bound in (*BOUNDS, inf))
"""Column of each bucket of the metrics."""


class Usage:
    """Compares the counters of this process with those that were written last."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._written: dict[tuple[str, str], Counters] = {}

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yield kind and ID of all that has counters, in no order. Others may count between two steps."""
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
            # Some are gone.
            self._written = {key: each for key, each in self._written.items() if self._counted(*key)[0]}

    def unwritten(self, kind: str, name: str) -> tuple[Counters, Counters]:
        """Return the counters that were not written yet, and those to write with `note_written`."""
        before = self._written.get((kind, name), NONE)
        outcomes, buckets = self._counted(kind, name)
        if sum(outcomes.values()) == before[0]:
            return NONE, before
        counters = _counters(outcomes, buckets)
        if counters[0] < before[0]:
            # The counters began again: the integration was away for a while.
            return counters, counters
        return tuple(map(sub, counters, before)), counters

    def note_written(self, kind: str, name: str, counters: Counters) -> None:
        """Note that these counters were written."""
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
            columns[_PLACES.get(outcome, _OTHER)] += count
    latency = [0] * len(LATENCY)
    for place, count in zip(_BUCKETS, buckets, strict=False):
        latency[place] += count
    return sum(outcomes.values()), sum(columns), *columns, *latency
