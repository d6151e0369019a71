"""Company log-ins: start one for a browser, and finish it with the issuer's redirect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from sidekey.api.auth.oidc.attempt import Attempt
from sidekey.api.auth.oidc.errors import LoginRefused
from sidekey.api.auth.oidc.grants import PersonGrant, grant_by
from sidekey.api.auth.oidc.issuer import Issuer
from sidekey.api.auth.oidc.limits import LoginLimits
from sidekey.network.fetch import Fetcher
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.admin import OidcRules

# joserfc comes with the extra `oidc`. Without it the config refuses `admin.oidc`.
with suppress(ImportError):
    from sidekey.api.auth.oidc import id_token


_CHECK_DELAY: Final = 30.0
"""Seconds until a failed check is repeated, or an issuer of another config is checked."""


class StartedLogin(NamedTuple):
    """A started log-in: the cookie to set, and the URL for the browser to open."""

    cookie: str
    url: str


class Redirect(NamedTuple):
    """The parameters of the issuer's redirect. `iss` may be missing."""

    code: str
    state: str
    iss: str | None


class Authenticated(NamedTuple):
    """A person who has logged in. `auth_at` is when the issuer authenticated them, 0 if the ID token has no time."""

    grant: PersonGrant
    auth_at: int


class CompanyLogins:
    """Starts and finishes log-ins, and checks whether the issuer works. Log-ins raise a subclass of LoginError.

    `report` logs a defect, returns the ID of its log line and must not raise.
    """

    def __init__(self, fetcher: Fetcher, metrics: Metrics, report: Callable[[BaseException], str]) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._report = report
        self._limits = LoginLimits()
        self._issuer: Issuer | None = None
        self._checks: asyncio.Task[None] | None = None

    def start(self, rules: Callable[[], OidcRules | None]) -> None:
        """Begin to check the issuer of the rules in use, which `rules` returns."""
        self._metrics.oidc_up = lambda: self._up(rules())
        self._checks = asyncio.get_running_loop().create_task(self._check_regularly(rules))

    async def close(self) -> None:
        """Stop the checks."""
        if self._checks is not None:
            self._checks.cancel()
            await asyncio.gather(self._checks, return_exceptions=True)

    def problem(self, rules: OidcRules | None) -> str:
        """Return why company log-ins do not work now, or an empty string."""
        reason = "" if rules is None else self._issuer_of(rules).problem
        return reason and f"the issuer cannot be used: {reason}"

    def _up(self, rules: OidcRules | None) -> bool | None:
        return None if rules is None else self._issuer_of(rules).up

    async def _check_regularly(self, rules_in_use: Callable[[], OidcRules | None]) -> None:
        was_up = True
        while True:
            rules = rules_in_use()
            try:
                if rules is not None:
                    await self._issuer_of(rules).check()
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next check may succeed
                self._report(defect)
            problem = self.problem(rules)
            if was_up and problem:
                get_logger().warning("company log-in is not available", reason=problem)
            was_up = not problem
            await asyncio.sleep(_CHECK_DELAY)

    async def begin(self, rules: OidcRules, *, again: bool) -> StartedLogin:
        """Start a log-in. With `again`, the issuer must ignore its own session and authenticate the person."""
        issuer, attempt = self._issuer_of(rules), Attempt.begin()
        metadata = await issuer.metadata()
        return StartedLogin(attempt.cookie, issuer.authorization_url(metadata, attempt, again=again))

    async def finish(self, rules: OidcRules, cookie: str, redirect: Redirect, address: str) -> Authenticated:
        """Finish the log-in that the cookie belongs to. Log-ins from one `address` share a rate limit."""
        attempt = Attempt.of(cookie)
        # Check this first: a forged redirect must not use up the rate limit of its address.
        if attempt is None or not attempt.has_state(redirect.state):
            raise LoginRefused("it took too long, or began in another browser: start again")
        async with self._limits.slot(address):
            issuer = self._issuer_of(rules)
            metadata = await issuer.metadata()
            if redirect.iss != rules.issuer and (redirect.iss is not None or metadata.names_issuer):
                raise LoginRefused("the redirect is not from the issuer")
            token = await issuer.redeem(metadata, redirect.code, attempt.verifier)
            # The issuer may have rotated its keys: this fetches them again if the key of the token is unknown.
            metadata = await issuer.metadata(lambda keys: bool(id_token.keys_for(token, keys)))
            keys = id_token.keys_for(token, metadata.keys)
            if not keys:
                raise LoginRefused("the ID token is signed with a key that the issuer does not publish")
            now = time.time()
            claims = id_token.verify(token, keys, rules, attempt.nonce, now)
            return Authenticated(grant_by(claims, rules), min(int(claims.get("auth_time", 0)), int(now)))

    def _issuer_of(self, rules: OidcRules) -> Issuer:
        """Return the issuer with its cached metadata, or a new one if `admin.oidc` has changed."""
        if self._issuer is None or self._issuer.rules != rules:
            self._issuer = Issuer(rules, self._fetcher)
        return self._issuer
