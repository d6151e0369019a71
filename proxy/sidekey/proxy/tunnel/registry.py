"""The tunnels of a process: their limits, counters and log lines."""

from __future__ import annotations

from typing import Final

from sidekey.errors import Problem
from sidekey.observe.log import get_logger
from sidekey.proxy.worker import Worker
from sidekey.snapshot.request_rules import RequestRules

RETRY_AFTER: Final = ("Retry-After", "1")
LOG_EVERY: Final = 60.0
"""Minimum seconds between two log lines for the same failure of an integration, because clients retry."""

_LOGGED_OUTCOMES: Final = {
    "ca_untrusted": "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
    "sni": "a caller's TLS handshake names another host than its CONNECT",
    "tls_failed": "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
}


class Tunnels:
    """Counts the tunnels of a process, from the CONNECT to the end."""

    __slots__ = ("_by_caller", "_log", "_logged", "_worker", "count")

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        self._worker: Final = worker
        self._by_caller: dict[str, int] = {}
        self._log = get_logger()
        self._logged: dict[tuple[str, str], float] = {}

    def enter(self, caller: str, rules: RequestRules) -> Problem | None:
        """Count a tunnel, or return the problem if it exceeds a limit. `caller` is empty if callers are not checked."""
        caller_count = self._by_caller.get(caller, 0)
        if self.count >= rules.limits.tunnels:
            return Problem("overloaded", "limits.tunnels is reached", headers=(RETRY_AFTER,))
        if caller_count >= rules.tunnels_per_caller:
            detail = "the caller has half of limits.tunnels, which is the most that one may have"
            return Problem("overloaded", detail, headers=(RETRY_AFTER,))
        self.count += 1
        self._by_caller[caller] = caller_count + 1
        return None

    def leave(self, caller: str) -> None:
        """Count a tunnel as ended."""
        self.count -= 1
        left = self._by_caller[caller] - 1
        if left:
            self._by_caller[caller] = left
        else:
            del self._by_caller[caller]

    def record(self, integration: str, host: str, outcome: str, request_id: str) -> str:
        """Count the outcome of a tunnel, and log it if a caller or an operator can fix it.

        Return the logged text, or an empty string. `request_id` is that of the CONNECT.
        """
        self._worker.metrics.tunnel_outcomes[integration, outcome] += 1
        message = _LOGGED_OUTCOMES.get(outcome)
        if message is None:
            return ""
        now, key = self._worker.deadlines.now, (integration, outcome)
        if now - self._logged.get(key, -LOG_EVERY) >= LOG_EVERY:
            self._logged[key] = now
            self._log.warning(message, request_id=request_id, integration=integration, host=host)
        return message
