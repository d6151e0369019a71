"""How long an exchange waited, and for what: told in its line of the log, and counted."""

from __future__ import annotations

from sidekey.observe.metrics import Metrics
from sidekey.proxy.states import ACQUIRING, CONNECTING, OVER, RENEWING


class WaitTimes:
    """Seconds that were waited for grants, for connections, and for the head of the response; 0 where nothing was.

    Only of an exchange that waited: of any other, everything but the response came at its beginning, and all of the
    response at its end. `_since` is when its last phase began, at first the exchange itself.
    """

    __slots__ = ("_since", "connect", "first_byte", "grant")

    def __init__(self, began: float) -> None:
        self._since = began
        self.grant = 0.0
        self.connect = 0.0
        self.first_byte = 0.0

    def turn(self, former: int, phase: int, now: float) -> None:
        """One phase of the request has ended and another begun."""
        if former in (ACQUIRING, RENEWING):
            self.grant += now - self._since
        elif former == CONNECTING:
            self.connect += now - self._since
        if phase != OVER:
            self._since = now

    def head_came(self, now: float) -> None:
        """The head of a response has come, at the end of the phase in which the request was written, or in it."""
        self.first_byte = now - self._since

    def write_again(self) -> None:
        """The response counts no more."""
        self.first_byte = 0.0

    def end(self, metrics: Metrics, now: float, *, is_answered: bool) -> None:
        """Count what was waited for. Where it `is_answered` and nothing was told of the head, all came just now."""
        if is_answered and not self.first_byte:
            self.head_came(now)
        if self.grant:
            metrics.grants.record(self.grant)
        if self.connect:
            metrics.connections.record(self.connect)
        if self.first_byte:
            metrics.first_bytes.record(self.first_byte)
