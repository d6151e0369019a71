"""The identity source of one integration: holds its client certificate while it is valid, says why there is none.

What is read again replaces it here, on the event loop; new connections use it from then on. The clock that counts is
the wall's, which may be set: it is looked at every `CHECK_EVERY` seconds at the latest.

A source whose integration was changed or removed is retired: it serves the requests in flight that hold it, and is
freed with the last of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import SystemRandom

from sidekey.certificates.fetch import UrlFetch
from sidekey.credentials.certificates.identity import ClientIdentity, expired
from sidekey.credentials.fields import SecretUnreadable
from sidekey.errors import Problem, ProblemError
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import CredentialSeries, Metrics
from sidekey.refresh import Failed, SingleFlight, call_weakly_at, fixed, growing
from sidekey.snapshot.certificate_loader import CertificateLoader

DAY = 86_400.0
WARN_DAYS = (21, 7, 1)
"""Days before a certificate expires at which a warning is logged, once each.

cert-manager renews a certificate of 90 days when 30 are left, so a renewal on time is never warned of.
"""

CHECK_EVERY = 60.0
RETRY_SECONDS = 1.0
"""How long after a reading that brought nothing the next may begin: requests come faster than a file is mounted."""

_RANDOM = SystemRandom()


class CertificateSource:
    """Hands out the client certificate of one integration. To be made on the event loop it lives on.

    `urls` fetches what comes by URL, None where nothing does. Until `activate` is called it has no certificate, writes
    nothing and runs no timer.
    """

    def __init__(
        self,
        integration: str,
        loader: CertificateLoader,
        metrics: Metrics,
        urls: UrlFetch | None = None,
        *,
        jitter: Callable[[], float] = _RANDOM.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.identity: ClientIdentity | None = None
        self.loader = loader
        self._id = integration
        self._series = CredentialSeries(metrics, integration, "certificate")
        self._urls = urls
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._log = get_logger(integration=integration)
        self._held: ClientIdentity | None = None
        self._read_fetched = loader.fetched
        """What was fetched, as of the last reading."""
        self._fetch_failed = False
        self._error = "" if loader.unreadable is None else str(loader.unreadable)
        # What the load of the config has found is logged by whoever loads it.
        self._logged_error = "" if loader.pending else self._error
        self._logged_warnings = loader.warnings
        self._warned = math.inf
        """Days of the warning that was logged; 0 once the end was."""
        self._reading = asyncio.Lock()
        self._refresh: SingleFlight[None, str] = SingleFlight(fixed(RETRY_SECONDS) if urls is None else growing(jitter))
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"CertificateSource({self._id})"

    def activate(self) -> None:
        """Begin to hand out what the loader has read, to write metrics and to warn."""
        self._series.count_failures(0)
        self._hold(self.loader.identity)

    async def obtain(self) -> ClientIdentity:
        """The certificate; where there is none it is read, or fetched, again, once for all who wait.

        Raises ProblemError (credential_unavailable) with the reason, and Retry-After where it is not fetched before.
        """
        if self.identity is None and not self._refresh.blocked:
            await self._refresh.join(self._attempt)
        if self.identity is None:
            raise ProblemError(self._problem())
        return self.identity

    async def reload(self) -> bool:
        """Read it after a change of its files, in a thread: True where it is valid. An invalid one replaces nothing."""
        return await self._read(changed=True)

    async def _read(self, *, changed: bool) -> bool:
        async with self._reading:
            fetched = self.loader.fetched
            await asyncio.to_thread(self.loader.load, self._wall())
            error = self.loader.unreadable
            changed |= fetched is not self._read_fetched
            self._read_fetched = fetched
            if error is not None:
                self._failed(error, counts=changed)
                return False
            self._recovered()
            if self._hold(self.loader.identity) and self._held is not None:
                self._log.info("a client certificate was loaded", not_after=moment(self._held.not_after))
            for place, text in self.loader.warnings:
                if (place, text) not in self._logged_warnings:
                    self._log.warning("the client certificate has a warning", place=".".join(place), warning=text)
            self._logged_warnings = self.loader.warnings
            return True

    async def renew(self) -> float:
        """Read or fetch it now, by the attempt under way where there is one; the seconds until it is due again."""
        outcome = await self._refresh.join(self._attempt)
        if isinstance(outcome, Failed):
            return max(0.0, self._refresh.not_before - self._loop.time())
        return math.inf if self.loader.refresh_every is None else self.loader.refresh_every

    def retire(self) -> None:
        """Write no metric and no warning any more."""
        self._series.retire()

    async def close(self) -> None:
        """Cancel the timer and the attempt under way."""
        if self._timer is not None:
            self._timer.cancel()
        await self._refresh.close()

    async def _attempt(self) -> Failed[str] | None:
        """Read it, after fetching what comes by URL. It must be usable by then, or the attempt has failed."""
        if self._urls is not None:
            try:
                changed = await self._urls.fetch()
            except SecretUnreadable as error:
                self._failed(error, counts=not self._fetch_failed)
                self._fetch_failed = True
                return Failed(self._error)
            self._fetch_failed = False
            if not changed and self.identity is not None and not self._error:
                return None
        return None if await self._read(changed=False) and self.identity is not None else Failed(self._error)

    def _failed(self, error: SecretUnreadable, *, counts: bool) -> None:
        """Log a failure unless the last one was the same. One of a retry `counts` for nothing: nothing has changed."""
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

    # What is held, and whether it may be used now.

    def _hold(self, found: ClientIdentity | None) -> bool:
        """Hold what was read, and begin to use it; whether it is another than before."""
        old = self._held
        another = found is not None and (old is None or found.fingerprint != old.fingerprint)
        if found is not None and another:
            self._held, self._warned = found, math.inf
            self._series.expires(found.not_after)
        self._check()
        return another

    def _check(self) -> None:
        """Use what is held while it is valid and not a moment longer; warn ahead of its end."""
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
                # Whoever asks next has it fetched, also while an attempt would not be due.
                self._refresh.allow()
                if not self._series.retired:
                    end = moment(held.not_after)
                    self._log.error("the client certificate has expired and is not used", not_after=end)
        due = min((each - now for each in (held.not_before, held.not_after) if each > now), default=CHECK_EVERY)
        self._timer = call_weakly_at(self._loop, self._loop.time() + min(due, CHECK_EVERY), self._check)

    def _warn(self, held: ClientIdentity, left: float) -> None:
        due = min((days for days in WARN_DAYS if left <= days * DAY), default=math.inf)
        if due < self._warned and not self._series.retired:
            self._warned = due
            self._log.warning("the client certificate expires soon", not_after=moment(held.not_after), days=left // DAY)

    def _problem(self) -> Problem:
        """Why there is none; where it is fetched, also when that is tried again."""
        held, now = self._held, self._wall()
        wait = self._refresh.not_before - self._loop.time() if self._urls is not None else 0.0
        headers = (("Retry-After", str(math.ceil(wait))),) if wait > 0 else ()
        detail = self._error or "the client certificate has not been read yet"
        if held is not None and now >= held.not_after:
            # Read again it is said to be expired a second time, unless something else is there by now.
            further = "" if not self._error or " expired on " in self._error else f"; {self._error}"
            detail = f"{expired(held).detail}{further}"
        elif held is not None and now < held.not_before:
            detail = f"the client certificate is not valid before {moment(held.not_before)}"
        return Problem("credential_unavailable", detail, error="proxy_configuration_error", headers=headers)


def moment(seconds: float) -> str:
    """A moment in UTC, as people write it (RFC 3339)."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
