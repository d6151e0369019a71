"""Which integrations are failing, by the requests of this process.

Nothing is added to a request that succeeds: only failures are reported one by one. At most `MOST` integrations are
remembered, those that failed last.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from weakref import ref

from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.runtime.snapshot import Integration
from sidekey.runtime.standing import FAILING

MOST: Final = 1000
"""Integrations that are remembered."""

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


class _Record:
    """The failures of one integration."""

    __slots__ = ("failed_at", "good", "of", "since", "streak")

    def __init__(self) -> None:
        self.good = 0
        """Requests that did not fail, as of the last failure."""
        self.streak = 0
        self.since = 0
        self.failed_at = 0
        self.of: ref[Integration] | None = None
        """The integration that failed last. Once it is changed, it is another object, and the failures do not count."""


class Traffic:
    """Counts failures in a row. `wall` returns seconds since the epoch."""

    def __init__(self, metrics: Metrics, wall: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._wall = wall
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def failed(self, stats: IntegrationStats, code: str, status: int) -> None:
        """Note a request that failed; its outcome was counted already."""
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
        """Return since when integrations are failing, in seconds since the epoch: at most `MOST`."""
        return {name: since for name in self._records if (since := self.failures_of(name)[0])}

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

    def _record(self, integration: str) -> _Record:
        record = self._records.setdefault(integration, _Record())
        self._records.move_to_end(integration)
        if len(self._records) > MOST:
            self._records.popitem(last=False)
        return record


def _good(stats: IntegrationStats) -> int:
    """How many requests did not fail in a way that tells of the integration.

    An upstream that responds with 404 or 429 was reached, and did not reject the credential.
    """
    outcomes = stats.outcomes
    return sum(outcomes.get(outcome, 0) for outcome in ("1xx", "2xx", "3xx", "4xx", "400", "429"))
