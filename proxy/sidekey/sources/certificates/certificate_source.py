"""The identity source of one integration: holds its client certificate while it may be used, says why there is none.

What is read anew is taken up here, on the event loop; new connections use it from then on. The clock that counts is the
wall's, which may be set: it is looked at again every `LOOK_AGAIN` seconds at the latest.

A source whose integration was changed or has gone is `retired`: it serves the requests in flight that hold it, and is
gone with the last of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import SystemRandom

from sidekey.credentials.certificates.loader import CertificateRing
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.identity import ClientIdentity, expired
from sidekey.errors import Problem, ProblemError
from sidekey.network.backoff import pause
from sidekey.network.timers import call_weakly_at
from sidekey.observe.logs import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.sources.certificates.url_fetch import Fetching

DAY = 86_400.0
WARN_DAYS = (30, 7, 1)
"""Days before its end at which a certificate is warned of, once each."""

LOOK_AGAIN = 60.0
RETRY_SECONDS = 1.0
"""How long after a reading that brought nothing the next may begin: requests come faster than a file is mounted."""

_RANDOM = SystemRandom()


class CertificateSource:
    """Hands out the client certificate of one integration. To be made on the event loop it lives on.

    `fetching` gets what lies behind URLs, None where nothing does.
    """

    def __init__(
        self,
        integration: str,
        ring: CertificateRing,
        metrics: Metrics,
        fetching: Fetching | None = None,
        *,
        jitter: Callable[[], float] = _RANDOM.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.identity: ClientIdentity | None = None
        self.ring = ring
        self._id = integration
        self._series = CredentialSeries(metrics, integration, "certificate")
        self._fetching = fetching
        self._jitter = jitter
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration)
        self._held: ClientIdentity | None = None
        # What the load of the config has found is told by whoever loads it.
        self._fault = "" if ring.unreadable is None else str(ring.unreadable)
        self._told = "" if ring.pending else self._fault
        self._warned = math.inf
        """Days of the warning that was given; 0 once the end was told."""
        self._reading = asyncio.Lock()
        self._flight: asyncio.Task[None] | None = None
        self._failures = 0
        self._next = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._remarks = ring.warnings
        self._series.count_failures(0)
        self._hold(ring.identity)

    def __repr__(self) -> str:
        return f"CertificateSource({self._id})"

    async def obtain(self) -> ClientIdentity:
        """The certificate; where there is none it is read, or fetched, again, once for all who wait.

        Raises ProblemError (credential_unavailable) with the reason, and Retry-After where it is not fetched before.
        """
        if self.identity is None:
            if self._flight is None and self._loop.time() >= self._next:
                self._take_off()
            if self._flight is not None:
                # A caller that leaves does not end the reading the others wait for.
                await asyncio.shield(self._flight)
        if self.identity is None:
            raise ProblemError(self._problem())
        return self.identity

    async def reload(self) -> bool:
        """Read it again, in a thread: True where what was read is good. A faulty one is not taken up."""
        async with self._reading:
            await asyncio.to_thread(self.ring.refresh, self._wall())
            fault = self.ring.unreadable
            if fault is not None:
                self._failed(fault)
                return False
            self._mended()
            if self._hold(self.ring.identity) and self._held is not None:
                self._log.info("a client certificate is taken up", not_after=moment(self._held.not_after))
            for place, text in self.ring.warnings:
                if (place, text) not in self._remarks:
                    self._log.warning("a remark on the client certificate", place=".".join(place), remark=text)
            self._remarks = self.ring.warnings
            return True

    async def renew(self) -> float:
        """Read or fetch it now, by the reading under way where there is one; the seconds until it is due again."""
        if self._flight is None:
            self._take_off()
        if self._flight is not None:
            await asyncio.shield(self._flight)
        return max(0.0, self._next - self._loop.time())

    def retire(self) -> None:
        """Tell nothing any more, by metric or by warning."""
        self._series.retire()

    async def close(self) -> None:
        """End the timer and the reading under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    # The flight: one reading (and fetching) at a time, in a task of its own.

    def _take_off(self) -> None:
        self._flight = self._loop.create_task(self._fly())

    async def _fly(self) -> None:
        good = False
        try:
            good = await self._renew()
        finally:
            self._flight = None
            self._next = self._loop.time() + self._wait(good)

    async def _renew(self) -> bool:
        """Get it anew; whether there is now one that is good."""
        if self._fetching is not None:
            try:
                changed = await self._fetching.fetch()
            except SecretUnreadable as fault:
                self._failed(fault)
                return False
            if not changed and self.identity is not None and not self._fault:
                return True
        return await self.reload() and self.identity is not None

    def _wait(self, good: bool) -> float:
        """Seconds until the next flight may begin, or does begin where there are URLs."""
        self._failures = 0 if good else self._failures + 1
        if self._fetching is None:
            return RETRY_SECONDS
        if not good:
            return pause(self._failures, self._jitter())
        return math.inf if self.ring.refresh_every is None else self.ring.refresh_every

    def _failed(self, fault: SecretUnreadable) -> None:
        self._fault = str(fault)
        self._series.count_failures(1)
        if self._fault != self._told:
            self._told = self._fault
            self._log.error(
                "a client certificate was not taken up", reason=self._fault, old_in_use=self.identity is not None
            )

    def _mended(self) -> None:
        if self._told:
            self._log.info("the client certificate is good again")
        self._fault = self._told = ""

    # What is held, and whether it may be used now.

    def _hold(self, found: ClientIdentity | None) -> bool:
        """Hold what was read, and begin to use it; whether it is another than before."""
        old = self._held
        another = found is not None and (old is None or found.fingerprint != old.fingerprint)
        if found is not None and another:
            self._held, self._warned = found, math.inf
            self._series.expires(found.not_after)
        self._judge()
        return another

    def _judge(self) -> None:
        """Use what is held within its time and not a moment longer; warn ahead of its end."""
        held, now = self._held, self._wall()
        if self._timer is not None:
            self._timer.cancel()
        if held is None:
            return
        if held.not_before <= now < held.not_after:
            self.identity = held
            self._warn(held, held.not_after - now)
        else:
            self.identity = None
            if now >= held.not_after and self._warned:
                self._warned = 0
                # Whoever asks next has it fetched, however long it is until that would be due.
                self._next = self._loop.time()
                if not self._series.retired:
                    end = moment(held.not_after)
                    self._log.error("the client certificate has expired and is not used", not_after=end)
        due = min((each - now for each in (held.not_before, held.not_after) if each > now), default=LOOK_AGAIN)
        self._timer = call_weakly_at(self._loop, self._loop.time() + min(due, LOOK_AGAIN), self._judge)

    def _warn(self, held: ClientIdentity, left: float) -> None:
        due = min((days for days in WARN_DAYS if left <= days * DAY), default=math.inf)
        if due < self._warned and not self._series.retired:
            self._warned = due
            self._log.warning("the client certificate expires soon", not_after=moment(held.not_after), days=left // DAY)

    def _problem(self) -> Problem:
        """Why there is none; where it is fetched, also when that is tried again."""
        held, now = self._held, self._wall()
        wait = self._next - self._loop.time() if self._fetching is not None else 0.0
        headers = (("Retry-After", str(math.ceil(wait))),) if wait > 0 else ()
        detail = self._fault or "the client certificate was not read yet"
        if held is not None and now >= held.not_after:
            # Read again it is told as expired a second time, unless there is something else by now.
            further = "" if not self._fault or " expired on " in self._fault else f"; {self._fault}"
            detail = f"{expired(held).detail}{further}"
        elif held is not None and now < held.not_before:
            detail = f"the client certificate is valid from {moment(held.not_before)} on"
        return Problem("credential_unavailable", detail, error="proxy_configuration_error", headers=headers)


def moment(seconds: float) -> str:
    """A moment in UTC, as people write it (RFC 3339)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
