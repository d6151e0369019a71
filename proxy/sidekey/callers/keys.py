"""The keys of one issuer: from a file, or fetched in the background."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sidekey.credentials.base import Call, CallError, Pairs
from sidekey.credentials.calls import parse_json_object
from sidekey.network.fetch import Fetcher
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import Metrics
from sidekey.policy.urls import InvalidTarget, parse_target
from sidekey.snapshot.jwt_issuer import JwtIssuer, JwtKeys, usable_keys

REFRESH: Final = 3600.0
"""Seconds between two fetches."""

RETRY: Final = 30.0
"""Seconds after a failed fetch."""

MIN_INTERVAL: Final = 60.0
"""Minimum seconds between two fetches that JWTs with an unknown key cause."""

MAX_AGE: Final = 86_400.0
"""Seconds after which fetched keys no longer count: the issuer may have withdrawn one."""

FIRST_FETCH: Final = 5.0
"""Maximum seconds that the start waits for the first fetch."""

_PUBLISH_TIME: Final = 300.0
"""Seconds after which every cache of the issuer has a key that it has begun to sign with."""

_TIMEOUT: Final = 10.0
_MAX_RESPONSE_SIZE: Final = 256 << 10
_WELL_KNOWN: Final = "/.well-known/openid-configuration"


class IssuerKeys:
    """The keys of an issuer. `on_change` is called when fetched keys differ from the previous ones."""

    def __init__(
        self,
        rules: JwtIssuer,
        fetcher: Fetcher,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        clock: Callable[[], float],
        *,
        on_change: Callable[[], None],
    ) -> None:
        self.rules = rules
        self._fetcher = fetcher
        self._metrics = metrics
        self._report = report
        self._clock = clock
        self._on_change = on_change
        self._log = get_logger()
        self._keys: JwtKeys | None = rules.keys
        self._url = ""
        """The URL of the last call."""
        self._fetched_at = self._tried_at = 0.0
        self._is_fetching = False
        self._has_failed = False
        self._wake = asyncio.Event()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def current(self) -> JwtKeys | None:
        """Return the keys, or None if none were fetched, or not for too long."""
        if self.rules.keys is None and self._clock() - self._fetched_at > MAX_AGE:
            return None
        return self._keys

    def fetch_for(self, issued_at: object, now: float) -> int:
        """Fetch the keys for a JWT with an unknown one, at most every MIN_INTERVAL seconds.

        Return the seconds after which the caller may retry, or 0 if the issuer had published the key by now: the JWT
        is older than the keys, and the last fetch did not fail. `now` is the Unix time.
        """
        if self._task is None:
            return 0
        fetched_at = now - (self._clock() - self._fetched_at)
        if isinstance(issued_at, int | float) and issued_at < fetched_at - _PUBLISH_TIME and not self._has_failed:
            return 0
        wait = 0.0 if self._is_fetching else MIN_INTERVAL - (self._clock() - self._tried_at)
        if wait > 0:
            return math.ceil(wait)
        self._wake.set()
        return 1

    def start(self) -> None:
        """Begin to fetch, unless the keys come from a file."""
        if self.rules.keys is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_fresh())

    def stop(self) -> None:
        """Fetch no more."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Fetch no more, and wait until a running call has ended."""
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def first_fetch(self) -> None:
        """Wait until the first fetch has ended, in success or failure, for at most FIRST_FETCH seconds."""
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_FETCH):
                    await self._first.wait()

    async def _keep_fresh(self) -> None:
        while True:
            self._is_fetching, self._tried_at = True, self._clock()
            try:
                pause = await self._refresh()
            except Exception as defect:  # noqa: BLE001  the edge of a task: the next attempt may succeed
                self._report(defect)
                pause = RETRY
            self._is_fetching = False
            self._wake.clear()
            self._first.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _refresh(self) -> float:
        """Fetch the keys once. Return the seconds until the next fetch."""
        name = self.rules.name
        try:
            keys = await self._fetch()
        except CallError as error:
            self._metrics.jwks_fetches[name, error.outcome] += 1
            if not self._has_failed:
                # The query may contain a key.
                self._log.warning(
                    "the keys of a JWT issuer cannot be fetched",
                    issuer=name,
                    url=self._url.partition("?")[0],
                    reason=error.reason,
                )
            self._has_failed = True
            return RETRY
        self._metrics.jwks_fetches[name, "ok"] += 1
        self._metrics.jwks_fetched_at[name] = time.time()
        if self._has_failed:
            self._log.info("the keys of a JWT issuer are fetched again", issuer=name)
        self._has_failed = False
        self._fetched_at = self._clock()
        if keys != self._keys:
            self._keys = keys
            self._on_change()
        return REFRESH

    async def _fetch(self) -> JwtKeys:
        """Fetch the keys. Raises CallError."""
        url = self.rules.jwks_url or await self._discover()
        keys = usable_keys((await self._read("JWKS URL", url)).get("keys"))
        if not keys:
            raise CallError("invalid", "JWKS URL returned no key for RS256 or ES256")
        return keys

    async def _discover(self) -> str:
        issuer = self.rules.issuer
        document = await self._read("discovery", issuer.removesuffix("/") + _WELL_KNOWN)
        if document.get("issuer") != issuer:
            raise CallError("invalid", "discovery has another `issuer` than jwt_issuers")
        url = document.get("jwks_uri")
        try:
            if isinstance(url, str) and parse_target(url).origin == parse_target(issuer).origin:
                return url
        except InvalidTarget:
            pass
        raise CallError("invalid", "discovery has no `jwks_uri` at the issuer's origin: set `jwks.url`")

    async def _read(self, step: str, url: str) -> dict[str, Any]:
        self._url = url
        headers: Pairs = (("Accept", "application/json, application/jwk-set+json"),)
        if self.rules.token:
            headers = (*headers, ("Authorization", f"Bearer {self.rules.token}"))
        reply = await self._fetcher.fetch(
            Call(step, "GET", url, headers, b""),
            self.rules.egress,
            timeout=_TIMEOUT,
            max_size=_MAX_RESPONSE_SIZE,
        )
        members = parse_json_object(reply.body) if reply.status == 200 else None
        if members is None:
            raise CallError("invalid", f"{step} responded {reply.status} without a JSON object")
        return members
