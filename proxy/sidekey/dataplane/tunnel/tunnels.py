"""How many tunnels there are and may be, and what is counted and logged of them."""

from __future__ import annotations

from typing import Final

from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem
from sidekey.observe.logs import get_logger
from sidekey.runtime.rules import Rules

RETRY_AFTER: Final = ("Retry-After", "1")
LOG_EVERY: Final = 60.0
"""Seconds in which one kind of failure of one integration is logged once: clients try again and again."""

_SAID: Final = {
    "ca_untrusted": "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
    "sni": "a caller's TLS handshake names another host than its CONNECT",
    "tls_failed": "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
}


class Tunnels:
    """The tunnels of a process, from their CONNECT to their end."""

    __slots__ = ("_by_caller", "_log", "_logged", "_worker", "count")

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        self._worker: Final = worker
        self._by_caller: dict[str, int] = {}
        self._log = get_logger()
        self._logged: dict[tuple[str, str], float] = {}

    def enter(self, caller: str, rules: Rules) -> Problem | None:
        """Count a tunnel of a caller (empty: callers are not checked) in, or say why it may not be."""
        own = self._by_caller.get(caller, 0)
        if self.count >= rules.limits.tunnels:
            return Problem("overloaded", "limits.tunnels is reached", headers=(RETRY_AFTER,))
        if own >= rules.tunnels_each:
            detail = "the caller has half of limits.tunnels, which is the most that one may have"
            return Problem("overloaded", detail, headers=(RETRY_AFTER,))
        self.count += 1
        self._by_caller[caller] = own + 1
        return None

    def leave(self, caller: str) -> None:
        """Count one out."""
        self.count -= 1
        left = self._by_caller[caller] - 1
        if left:
            self._by_caller[caller] = left
        else:
            del self._by_caller[caller]

    def record(self, integration: str, host: str, outcome: str, request_id: str) -> str:
        """Count what became of a tunnel, and log what its caller or operator can do something about.

        Returns that, empty where it is nothing; `request_id` is the CONNECT's.
        """
        self._worker.metrics.tunnel_outcomes[integration, outcome] += 1
        said = _SAID.get(outcome)
        if said is None:
            return ""
        now, key = self._worker.deadlines.now, (integration, outcome)
        if now - self._logged.get(key, -LOG_EVERY) >= LOG_EVERY:
            self._logged[key] = now
            self._log.warning(said, request_id=request_id, integration=integration, host=host)
        return said
