"""Verify callers' JWTs, with the keys of their issuers.

A verified JWT is remembered by its digest until it expires, so that the next request costs a look-up. What is
remembered is the key of a caller, never the caller: a reload that removes the caller takes effect at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sidekey.callers.keys import IssuerKeys
from sidekey.network.fetch import Fetcher
from sidekey.observe.metrics import Metrics
from sidekey.policy.callers import Unidentified, jwt_key
from sidekey.snapshot.jwt_issuer import JwtIssuer
from sidekey.snapshot.snapshot import Snapshot

# joserfc comes with the extra `jwt`. Without it the config refuses `jwt_issuers`.
with suppress(ImportError):
    from sidekey.credentials.jws import check_times, find_keys, parse_part, verify_signature

MAX_SIZE: Final = 8 << 10
"""Maximum bytes of a JWT. Those of Kubernetes and GitHub have about 1 KiB."""

MAX_REMEMBERED: Final = 10_000
"""Maximum number of verified JWTs to remember, about 2 MiB. The oldest is forgotten first."""

MAX_REMEMBERED_SECONDS: Final = 3600.0
"""Maximum seconds to remember a verified JWT, whose key may be withdrawn before it expires."""

RETRY_AFTER: Final = 5
"""Seconds after which a caller may retry while Sidekey has no keys of its issuer."""


class _Verified(NamedTuple):
    key: bytes
    expires: float


class JwtIssuers:
    """Verifies JWTs of the issuers in use, and keeps their keys fresh. Implements `policy.callers.JwtVerifier`.

    `report` logs a defect, returns the ID of its log line and must not raise. `wall` returns the Unix time, and `clock`
    is monotonic.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        metrics: Metrics,
        report: Callable[[BaseException], str],
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._metrics = metrics
        self._report = report
        self._wall = wall
        self._clock = clock
        self._issuers: dict[str, IssuerKeys] = {}
        """By the issuer's URL."""
        self._verified: dict[bytes, _Verified] = {}

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare the issuers of another snapshot. The returned function begins to fetch the keys of new ones."""
        issuers: dict[str, IssuerKeys] = {}
        for rules in snapshot.jwt_issuers.values():
            current = self._issuers.get(rules.issuer)
            if current is None or current.rules != rules:
                current = IssuerKeys(
                    rules,
                    self._fetcher,
                    self._metrics,
                    self._report,
                    self._clock,
                    on_change=self._verified.clear,
                )
            issuers[rules.issuer] = current

        def commit() -> None:
            previous, self._issuers = self._issuers, issuers
            if previous != issuers:
                # Under the previous rules, another audience or key was right.
                self._verified.clear()
            for url, keys in previous.items():
                if issuers.get(url) is not keys:
                    keys.stop()
            for url, keys in issuers.items():
                # The token may differ.
                keys.rules = snapshot.jwt_issuers[keys.rules.name]
                if previous.get(url) is not keys:
                    keys.start()
            self._metrics.keep_issuers(snapshot.jwt_issuers)

        return commit

    async def wait_until_ready(self) -> None:
        """Wait for the first fetch of each issuer, so that the first callers are not refused."""
        await asyncio.gather(*(keys.first_fetch() for keys in self._issuers.values()))

    async def close(self) -> None:
        """Stop to fetch keys."""
        await asyncio.gather(*(keys.close() for keys in self._issuers.values()))

    # policy.callers.JwtVerifier

    def find(self, digest: bytes) -> bytes | None:
        """Return the caller's key of a JWT that was verified before and has not expired, else None."""
        verified = self._verified.get(digest)
        if verified is None:
            return None
        if verified.expires <= self._wall():
            del self._verified[digest]
            return None
        return verified.key

    def verify(self, token: bytes, digest: bytes) -> bytes | Unidentified:
        """Verify a JWT and remember it. Return the caller's key, or why the JWT is refused."""
        try:
            verified = self._verify(token)
        except ValueError as error:
            return Unidentified("jwt_invalid", f"the JWT {error}")
        if isinstance(verified, Unidentified):
            return verified
        if len(self._verified) >= MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = verified
        return verified.key

    def _verify(self, token: bytes) -> _Verified | Unidentified:
        """Return the key and end of a valid JWT, or why its issuer's keys cannot verify it. Raises ValueError."""
        if len(token) > MAX_SIZE:
            raise ValueError(f"has more than {MAX_SIZE >> 10} KiB")
        text = token.decode("latin-1")
        header, unverified = parse_part(text, 0), parse_part(text, 1)
        if header is None or unverified is None:
            raise ValueError("is malformed")
        name = unverified.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise ValueError("is from an issuer that is not in `jwt_issuers`")
        if issuer.rules.problem:
            return Unidentified("jwt_invalid", issuer.rules.problem, RETRY_AFTER)
        keys = issuer.current()
        if keys is None:
            return Unidentified("jwt_invalid", "the keys of the JWT's issuer cannot be fetched now", RETRY_AFTER)
        candidates = find_keys(header, keys)
        if not candidates:
            # Without verification, `iat` only decides whether the caller should retry.
            retry_after = issuer.fetch_for(unverified.get("iat"), self._wall())
            if retry_after:
                return Unidentified("jwt_invalid", "the JWT's key is not here yet", retry_after)
            raise ValueError("is signed with a key that its issuer does not have")
        try:
            claims = verify_signature(text, header, candidates)
        except ValueError:
            if header.get("kid") is None:
                # The issuer may sign with a new key, which only a fetch can tell.
                issuer.fetch_for(unverified.get("iat"), self._wall())
            raise
        expires = check_times(claims, self._wall(), required=(), leeway=0.0)
        expires = min(expires, self._wall() + MAX_REMEMBERED_SECONDS)
        return _Verified(jwt_key(issuer.rules.name, _check_claims(claims, issuer.rules)), expires)


def _check_claims(claims: Mapping[str, Any], rules: JwtIssuer) -> str:
    """Return the subject. Raises ValueError if the JWT is from another issuer or not for Sidekey."""
    if claims.get("iss") != rules.issuer:
        raise ValueError("is from another issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if rules.audience not in audiences:
        raise ValueError("is for another audience: request one with the audience in `jwt_issuers`")
    if rules.issuer in audiences:
        # By default a cluster's API server accepts its own issuer URL as an audience.
        raise ValueError("is also for its issuer: request one for Sidekey alone")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise ValueError("has no subject")
    return subject
