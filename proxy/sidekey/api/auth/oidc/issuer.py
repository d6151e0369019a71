"""Client of the OpenID Connect issuer: discovery, keys and token endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sidekey.api.auth.oidc.attempt import Attempt
from sidekey.api.auth.oidc.errors import IssuerUnavailable, LoginRefused
from sidekey.credentials.base import Call, CallError, Pairs, Reply
from sidekey.credentials.calls import encode_form, parse_json_object, with_query
from sidekey.credentials.oauth2.client_authentication import Client
from sidekey.network.fetch import Fetcher
from sidekey.policy.urls import InvalidTarget, parse_target
from sidekey.snapshot.admin import OidcRules

_TIMEOUT: Final = 10.0
_MAX_RESPONSE_SIZE: Final = 256 << 10

_CACHE_LIFETIME: Final = 3600.0
"""Seconds to cache discovery and keys."""

CHECK_INTERVAL: Final = 300.0
"""Seconds between two checks of an issuer that works."""

_RETRY_DELAY: Final = 10.0
"""Seconds after a failure without a request to the issuer."""

_KEY_FETCH_INTERVAL: Final = 30.0
"""Minimum seconds between two fetches of the keys for tokens with an unknown key."""

_WELL_KNOWN: Final = "/.well-known/openid-configuration"

Keys = tuple[Mapping[str, Any], ...]


class Metadata(NamedTuple):
    """Values from the discovery document, and the keys (JWK, RFC 7517).

    `secret_in_body`: the client authenticates in the body. `names_issuer`: redirects contain `iss` (RFC 9207).
    """

    authorization_endpoint: str
    token_endpoint: str
    secret_in_body: bool
    names_issuer: bool
    keys: Keys


class Issuer:
    """Client of the issuer in `rules`. Its coroutines raise IssuerUnavailable."""

    def __init__(self, rules: OidcRules, fetcher: Fetcher) -> None:
        self.rules: Final = rules
        self._fetcher = fetcher
        self._lock = asyncio.Lock()
        self._metadata: Metadata | None = None
        self._fetched_at = 0.0
        self._keys_refetched_at = -_KEY_FETCH_INTERVAL
        self._failure: IssuerUnavailable | None = None
        self._failed_at = 0.0

    async def metadata(self, keys_suffice: Callable[[Keys], bool] | None = None) -> Metadata:
        """Return the metadata. Fetch it again after an hour, or if `keys_suffice` returns False."""
        cached = self._metadata
        is_recent = cached is not None and time.monotonic() - self._fetched_at < _CACHE_LIFETIME
        if cached is not None and is_recent and (keys_suffice is None or keys_suffice(cached.keys)):
            # A check of a slow issuer must not delay log-ins.
            return cached
        async with self._lock:
            now = time.monotonic()
            cached = self._metadata
            if cached is not None and now - self._fetched_at < _CACHE_LIFETIME:
                if (
                    keys_suffice is None
                    or keys_suffice(cached.keys)
                    or now - self._keys_refetched_at < _KEY_FETCH_INTERVAL
                ):
                    return cached
                self._keys_refetched_at = now
            if self._failure is not None and now - self._failed_at < _RETRY_DELAY:
                raise IssuerUnavailable(self._failure.reason)
            return await self._refresh()

    async def check(self) -> None:
        """Fetch the metadata again after _RETRY_DELAY or CHECK_INTERVAL seconds, and set `problem`."""
        async with self._lock:
            at, delay = self._fetched_at, CHECK_INTERVAL
            if self._failure is not None:
                at, delay = self._failed_at, _RETRY_DELAY
            elif self._metadata is None:
                delay = 0.0
            if time.monotonic() - at >= delay:
                with suppress(IssuerUnavailable):
                    await self._refresh()

    @property
    def problem(self) -> str:
        """Why the last fetch of the metadata has failed, or an empty string."""
        return "" if self._failure is None else self._failure.reason

    @property
    def up(self) -> bool | None:
        """Whether the last fetch of the metadata has succeeded, or None before the first."""
        return None if self._metadata is None and self._failure is None else self._failure is None

    async def _refresh(self) -> Metadata:
        try:
            self._metadata = await self._fetch()
        except IssuerUnavailable as failure:
            self._failure, self._failed_at = failure, time.monotonic()
            raise
        self._failure, self._fetched_at = None, time.monotonic()
        return self._metadata

    def authorization_url(self, metadata: Metadata, attempt: Attempt, *, again: bool) -> str:
        """Build the URL for the browser. With `again`, the issuer must authenticate the person again."""
        parameters = {
            "response_type": "code",
            "client_id": self.rules.client_id,
            "redirect_uri": self.rules.redirect_url,
            "scope": " ".join(self.rules.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            **({"max_age": "0"} if again else {}),
        }
        return with_query(metadata.authorization_endpoint, tuple(parameters.items()))

    async def redeem(self, metadata: Metadata, code: str, verifier: str) -> str:
        """Exchange a code for an ID token. Raises LoginRefused."""
        rules = self.rules
        client = Client("body" if metadata.secret_in_body else "header", rules.client_id, rules.client_secret)
        proof = client.prove(time.time())
        fields = (
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", rules.redirect_url),
            ("code_verifier", verifier),
            *proof.fields,
        )
        headers = (*proof.headers, ("Content-Type", "application/x-www-form-urlencoded"))
        reply = await self._call(
            "token endpoint", "POST", metadata.token_endpoint, headers, encode_form(fields).encode()
        )
        members = parse_json_object(reply.body) or {}
        if 400 <= reply.status < 500:
            if members.get("error") in ("invalid_client", "unauthorized_client"):
                raise IssuerUnavailable("token endpoint refused `client_id` or `client_secret` of admin.oidc")
            raise LoginRefused("the issuer did not accept the code of the redirect")
        token = members.get("id_token")
        if reply.status != 200 or not isinstance(token, str):
            raise IssuerUnavailable(f"token endpoint responded {reply.status} without an ID token")
        return token

    async def _fetch(self) -> Metadata:
        issuer = self.rules.issuer
        discovery = await self._read("discovery", issuer.removesuffix("/") + _WELL_KNOWN)
        if discovery.get("issuer") != issuer:
            raise IssuerUnavailable("discovery has another `issuer` than admin.oidc.issuer")
        methods = discovery.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        keys = (await self._read("keys", _endpoint(discovery, "jwks_uri"))).get("keys")
        if not isinstance(methods, list) or not isinstance(keys, list):
            raise IssuerUnavailable("discovery or the set of keys is malformed")
        return Metadata(
            _endpoint(discovery, "authorization_endpoint"),
            _endpoint(discovery, "token_endpoint"),
            "client_secret_post" in methods and "client_secret_basic" not in methods,
            discovery.get("authorization_response_iss_parameter_supported") is True,
            tuple(key for key in keys if isinstance(key, dict)),
        )

    async def _read(self, step: str, url: str) -> dict[str, Any]:
        reply = await self._call(step, "GET", url)
        members = parse_json_object(reply.body) if reply.status == 200 else None
        if members is None:
            raise IssuerUnavailable(f"{step} responded {reply.status} without a JSON object")
        return members

    async def _call(self, step: str, method: str, url: str, headers: Pairs = (), body: bytes = b"") -> Reply:
        call = Call(step, method, url, (("Accept", "application/json"), *headers), body)
        try:
            return await self._fetcher.fetch(
                call,
                self.rules.egress,
                timeout=_TIMEOUT,
                max_size=_MAX_RESPONSE_SIZE,
            )
        except CallError as error:
            raise IssuerUnavailable(error.reason) from None


def _endpoint(discovery: Mapping[str, Any], name: str) -> str:
    """Return the https URL of an endpoint. Over plain HTTP, an attacker on the path could log in as anybody."""
    url = discovery.get(name)
    if isinstance(url, str):
        try:
            if parse_target(url).origin.scheme == "https":
                return url
        except InvalidTarget:
            pass
    raise IssuerUnavailable(f"discovery has no https URL in `{name}`")
