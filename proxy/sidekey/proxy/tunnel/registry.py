"""The tunnels of a process: their counters and log lines. `Worker` limits them."""

from __future__ import annotations

from typing import Final

from sidekey.observe.log import get_logger
from sidekey.proxy.worker import Worker

LOG_EVERY: Final = 60.0
"""Minimum seconds between two log lines for the same failure of an integration, because clients retry."""

_LOGGED_OUTCOMES: Final = {
    "ca_untrusted": "a caller does not trust the local CA: have it trust bundle.pem of ca.trust_folder, and restart it",
    "sni": "a caller's TLS handshake names another host than its CONNECT",
    "tls_failed": "TLS with a caller failed in a tunnel: Sidekey speaks TLS 1.2 or newer",
}


class Tunnels:
    """Counts the outcomes of the tunnels of a process."""

    __slots__ = ("_log", "_logged", "_worker")

    def __init__(self, worker: Worker) -> None:
        self._worker: Final = worker
        self._log = get_logger()
        self._logged: dict[tuple[str, str], float] = {}

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
