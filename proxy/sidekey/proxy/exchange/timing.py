"""The waiting times of a request, for its line in the access log and for the histograms."""

from __future__ import annotations

from typing import Final

from sidekey.observe.metrics import Metrics

UNTIMED: Final = 0
"""A wait that neither the log nor a histogram shows."""
GRANT: Final = 1
CONNECTION: Final = 2


class WaitTimes:
    """Seconds that a request waited for grants, for connections, and for the head of the response; 0 if it did not.

    Only a request that waits, or whose body or response comes in parts, has this object. `_since` is the start of the
    current wait, and `_kind` its kind. A client certificate counts as a grant.
    """

    __slots__ = ("_kind", "_since", "connect", "first_byte", "grant")

    def __init__(self, began: float) -> None:
        self._since = began
        self._kind = UNTIMED
        self.grant = 0.0
        self.connect = 0.0
        self.first_byte = 0.0

    def begin(self, kind: int, now: float) -> None:
        """End the current wait and begin one of this kind."""
        self._add(now)
        self._kind, self._since = kind, now

    def _add(self, now: float) -> None:
        if self._kind == GRANT:
            self.grant += now - self._since
        elif self._kind == CONNECTION:
            self.connect += now - self._since

    def record_head(self, now: float) -> None:
        """Count the time from the last write of the request to the head of the response."""
        self.first_byte = now - self._since

    def discard_head(self) -> None:
        """Discard the recorded time, because the response is not delivered."""
        self.first_byte = 0.0

    def end(self, metrics: Metrics, now: float, *, upstream_completed: bool) -> None:
        """Count all waits in the metrics. If the upstream's response came in one piece, its head came at the end."""
        self._add(now)
        if upstream_completed and not self.first_byte:
            self.record_head(now)
        if self.grant:
            metrics.grants.record(self.grant)
        if self.connect:
            metrics.connections.record(self.connect)
        if self.first_byte:
            metrics.first_bytes.record(self.first_byte)
