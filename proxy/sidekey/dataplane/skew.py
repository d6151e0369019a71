"""Clocks that disagree: what is signed has a time in it, and an upstream refuses one that is far from its own."""

from __future__ import annotations

from typing import Final

from sidekey.core.headers import line_values
from sidekey.core.response import ResponseHead
from sidekey.credentials.endpoint_reply import sent_at
from sidekey.dataplane.worker import Worker
from sidekey.observe.logs import get_logger

REFUSALS: Final = frozenset({401, 403})
"""Statuses by which a signature is refused."""

MOST: Final = 60.0
"""Seconds that two clocks may differ by before it is said; most who verify signatures allow five minutes."""

LOG_EVERY: Final = 60.0
"""Seconds in which it is logged once for an integration."""


class SkewLog:
    """Logs for one integration that the clock of an upstream that refused a request differs from ours."""

    __slots__ = ("_integration", "_log", "_logged", "_worker")

    def __init__(self, worker: Worker, integration: str) -> None:
        self._worker: Final = worker
        self._integration: Final = integration
        self._log = get_logger()
        self._logged = -LOG_EVERY

    def look(self, head: ResponseHead) -> None:
        """Compare the `Date` of a response by which a signed request was refused (RFC 9110 6.6.1) with our clock."""
        dates = line_values(head.fields, b"date")
        sent = sent_at({"date": dates[0].decode("latin-1")}) if len(dates) == 1 else None
        now = self._worker.deadlines.now
        if sent is None or now - self._logged < LOG_EVERY:
            return
        ahead = self._worker.wall() - sent
        if abs(ahead) > MOST:
            self._logged = now
            self._log.warning(
                "clock skew: an upstream refused a signed request, and its Date differs from this machine's clock: set "
                "the clock of this machine",
                integration=self._integration,
                status=head.status,
                ahead_s=round(ahead),
            )
