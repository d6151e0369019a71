"""Client certificate of one integration: current identity, expiry, and last error.

A reloaded certificate replaces the current one on the event loop, and new connections use it. Validity follows the wall
clock, which may be set: the source checks it at least every `CHECK_SECONDS` seconds.

A source whose integration was changed or removed is retired: it serves the requests in flight that use it, and is
freed with the last one.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import SystemRandom

from sidekey.certificates.fetch import UrlFetch
from sidekey.credentials.certificates.identity import ClientIdentity, expired_problem
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import Problem, ProblemError
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.refresh import Failed, SingleFlight, call_weakly_at, fixed_pause, growing_pause
from sidekey.snapshot.certificate_loader import CertificateLoader

DAY = 86_400.0
WARN_DAYS = (21, 7, 1)
"""Days before a certificate expires at which Sidekey logs a warning, once each.

cert-manager renews a certificate of 90 days when 30 remain, so a renewal on time causes no warning.
"""

CHECK_SECONDS = 60.0
"""Maximum seconds between two checks of the validity."""

RETRY_SECONDS = 1.0
"""Seconds between two attempts to read a missing certificate, because requests come faster than a file is mounted."""

_RANDOM = SystemRandom()


class CertificateSource:
    """Hands out the client certificate of one integration. Create it on the event loop that it lives on.

    `urls` fetches the parts that have a URL, or is None. Before `activate` the source has no certificate, writes no
    metric or log line and runs no timer.
    """

    def __init__(
        self,
        integration: str,
        loader: CertificateLoader,
        metrics: Metrics,
        urls: UrlFetch | None = None,
        *,
        jitter: Callable[[], float] = _RANDOM.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.identity: ClientIdentity | None = None
        self.loader = loader
        self._id = integration
        self._series = CredentialSeries(metrics, integration, "certificate")
        self._urls = urls
        self._wall_clock = wall_clock
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration)
        self._current: ClientIdentity | None = None
        self._last_read_content = loader.fetched
        """The fetched content that was read last. New content is another object."""
        self._fetch_failed = False
        self._error = "" if loader.unreadable is None else str(loader.unreadable)
        # The load of the config has logged these, except that a URL was never fetched (`pending`).
        self._logged_error = "" if loader.pending else self._error
        self._logged_warnings = loader.warnings
        self._warned_days = math.inf
        """Days of the last warning, or 0 once the expiry was logged."""
        self._reading = asyncio.Lock()
        self._refresh: SingleFlight[None, str] = SingleFlight(
            fixed_pause(RETRY_SECONDS) if urls is None else growing_pause(jitter)
        )
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"CertificateSource({self._id})"

    def activate(self) -> None:
        """Hand out the certificate that the loader has read, and begin to write metrics and warnings."""
        self._series.count_failures(0)
        self._set_current(self.loader.identity)

    async def obtain(self) -> ClientIdentity:
        """Return the certificate. If there is none, read or fetch it again, once for all callers.

        Raises ProblemError (credential_unavailable) with the reason, and with Retry-After if fetches are paused.
        """
        if self.identity is None and not self._refresh.blocked:
            await self._refresh.start_or_wait(self._attempt)
        if self.identity is None:
            raise ProblemError(self._problem())
        return self.identity

    async def reload(self) -> bool:
        """Read changed files in a thread. Return True if the certificate is valid; an invalid one replaces nothing."""
        return await self._read(changed=True)

    async def _read(self, *, changed: bool) -> bool:
        """Return True if the certificate is valid. Count a failure if files `changed` or new content was fetched."""
        async with self._reading:
            fetched = self.loader.fetched
            await asyncio.to_thread(self.loader.load, self._wall_clock())
            error = self.loader.unreadable
            changed |= fetched is not self._last_read_content
            self._last_read_content = fetched
            if error is not None:
                self._report_failure(error, counts=changed)
                return False
            self._recovered()
            if self._set_current(self.loader.identity) and self._current is not None:
                self._log.info("a client certificate was loaded", not_after=format_time(self._current.not_after))
            for place, text in self.loader.warnings:
                if (place, text) not in self._logged_warnings:
                    self._log.warning("the client certificate has a warning", place=".".join(place), warning=text)
            self._logged_warnings = self.loader.warnings
            return True

    async def renew(self) -> float:
        """Read or fetch the certificate, or wait for the running attempt. Return the seconds until it is due again."""
        outcome = await self._refresh.start_or_wait(self._attempt)
        if isinstance(outcome, Failed):
            return max(0.0, self._refresh.not_before - self._loop.time())
        return math.inf if self.loader.refresh_every is None else self.loader.refresh_every

    def retire(self) -> None:
        """Stop writing metrics and warnings."""
        self._series.retire()

    async def close(self) -> None:
        """Cancel the timer and the running attempt."""
        if self._timer is not None:
            self._timer.cancel()
        await self._refresh.close()

    async def _attempt(self) -> Failed[str] | None:
        """Fetch the URLs and read the certificate. The attempt fails unless it is usable now."""
        if self._urls is not None:
            try:
                changed = await self._urls.fetch()
            except SecretUnreadable as error:
                self._report_failure(error, counts=not self._fetch_failed)
                self._fetch_failed = True
                return Failed(self._error)
            self._fetch_failed = False
            if not changed and self.identity is not None and not self._error:
                return None
        return None if await self._read(changed=False) and self.identity is not None else Failed(self._error)

    def _report_failure(self, error: SecretUnreadable, *, counts: bool) -> None:
        """Log a failure unless it repeats the last one. A retry without a change does not count in the metric."""
        self._error = str(error)
        if counts:
            self._series.count_failures(1)
        if self._error != self._logged_error:
            self._logged_error = self._error
            self._log.error(
                "a client certificate could not be loaded", reason=self._error, old_in_use=self.identity is not None
            )

    def _recovered(self) -> None:
        if self._logged_error:
            self._log.info("the client certificate is valid again")
        self._error = self._logged_error = ""

    # The current certificate, and whether it may be used now.

    def _set_current(self, identity: ClientIdentity | None) -> bool:
        """Use the loaded certificate. Return True if it is a new one."""
        previous = self._current
        is_new = identity is not None and (previous is None or identity.fingerprint != previous.fingerprint)
        if identity is not None and is_new:
            self._current, self._warned_days = identity, math.inf
            self._series.set_expiry(identity.not_after)
        self._apply_validity()
        return is_new

    def _apply_validity(self) -> None:
        """Enable or disable the certificate by its validity, and warn before it expires."""
        current, now = self._current, self._wall_clock()
        if self._timer is not None:
            self._timer.cancel()
        if current is None:
            return
        if current.not_before <= now < current.not_after:
            self.identity = current
            self._warn(current, current.not_after - now)
        else:
            self.identity = None
            if now >= current.not_after and self._warned_days:
                self._warned_days = 0
                # Let the next request fetch a new one at once, despite the pause after a failure.
                self._refresh.unblock()
                if not self._series.retired:
                    end = format_time(current.not_after)
                    self._log.error("the client certificate has expired and is not used", not_after=end)
        due = min((end - now for end in (current.not_before, current.not_after) if end > now), default=CHECK_SECONDS)
        self._timer = call_weakly_at(self._loop, self._loop.time() + min(due, CHECK_SECONDS), self._apply_validity)

    def _warn(self, current: ClientIdentity, remaining: float) -> None:
        due = min((days for days in WARN_DAYS if remaining <= days * DAY), default=math.inf)
        if due < self._warned_days and not self._series.retired:
            self._warned_days = due
            end = format_time(current.not_after)
            self._log.warning("the client certificate expires soon", not_after=end, days=remaining // DAY)

    def _problem(self) -> Problem:
        """Build the problem for a missing certificate, with Retry-After if fetches are paused."""
        current, now = self._current, self._wall_clock()
        wait = self._refresh.not_before - self._loop.time() if self._urls is not None else 0.0
        headers = (("Retry-After", str(math.ceil(wait))),) if wait > 0 else ()
        detail = self._error or "the client certificate has not been read yet"
        if current is not None and now >= current.not_after:
            # The error of a reload may only repeat the expiry.
            addition = "" if not self._error or " expired on " in self._error else f"; {self._error}"
            detail = f"{expired_problem(current).detail}{addition}"
        elif current is not None and now < current.not_before:
            detail = f"the client certificate is not valid before {format_time(current.not_before)}"
        return Problem("credential_unavailable", detail, error="proxy_configuration_error", headers=headers)


def format_time(seconds: float) -> str:
    """Format seconds since the epoch as UTC (RFC 3339)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
