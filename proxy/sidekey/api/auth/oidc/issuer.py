"""The issuer: its discovery document, its keys, and its token endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sidekey.api.auth.oidc.attempt import Attempt
from sidekey.api.auth.oidc.errors import IssuerUnavailable, LoginRefused
from sidekey.credentials.base import Call, CallError, Pairs, Reply
from sidekey.credentials.calls import form, json_object, with_query
from sidekey.credentials.oauth2.client_authentication import Client
from sidekey.network.fetch import Fetcher
from sidekey.policy.urls import InvalidTarget, parse_target
from sidekey.snapshot.admin import OidcRules

_TIMEOUT: Final = 10.0
_MAX_RESPONSE_SIZE: Final = 256 << 10

_LIFE: Final = 3600.0
"""Seconds that discovery and keys are cached."""

_AFTER_FAILURE: Final = 10.0
"""Seconds in which the issuer is not asked again after a failure."""

_AFTER_UNKNOWN_KEY: Final = 30.0
"""Minimum seconds between two fetches because of keys that are not known."""

_WELL_KNOWN: Final = "/.well-known/openid-configuration"

Keys = tuple[Mapping[str, Any], ...]


class Metadata(NamedTuple):
    """What Sidekey uses of discovery, and the keys (JWK, RFC 7517).

    `secret_in_body`: the client authenticates in the body. `names_issuer`: redirects have `iss` (RFC 9207).
    """

    authorization_endpoint: str
    token_endpoint: str
    secret_in_body: bool
    names_issuer: bool
    keys: Keys


class Issuer:
    """The issuer of one set of rules. Methods raise IssuerUnavailable."""

    def __init__(self, rules: OidcRules, fetcher: Fetcher) -> None:
        self.rules: Final = rules
        self._fetcher = fetcher
        self._lock = asyncio.Lock()
        self._metadata: Metadata | None = None
        self._fetched_at = 0.0
        self._renewed_at = -_AFTER_UNKNOWN_KEY
        self._failure: IssuerUnavailable | None = None
        self._failed_at = 0.0

    async def metadata(self, keys_suffice: Callable[[Keys], bool] | None = None) -> Metadata:
        """Return the metadata. Fetch it again after an hour, and sooner if the keys do not suffice."""
        async with self._lock:
            now = time.monotonic()
            cached = self._metadata
            if cached is not None and now - self._fetched_at < _LIFE:
                if keys_suffice is None or keys_suffice(cached.keys) or now - self._renewed_at < _AFTER_UNKNOWN_KEY:
                    return cached
                self._renewed_at = now
            if self._failure is not None and now - self._failed_at < _AFTER_FAILURE:
                raise IssuerUnavailable(self._failure.reason)
            try:
                self._metadata = await self._fetch()
            except IssuerUnavailable as failure:
                self._failure, self._failed_at = failure, time.monotonic()
                raise
            self._failure, self._fetched_at = None, time.monotonic()
            return self._metadata

    def authorization_url(self, metadata: Metadata, attempt: Attempt, *, again: bool) -> str:
        """Return the URL that the browser opens. `again`: the issuer must ask the person, although it knows them."""
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
        reply = await self._call("token endpoint", "POST", metadata.token_endpoint, headers, form(fields).encode())
        found = json_object(reply.body) or {}
        if 400 <= reply.status < 500:
            if found.get("error") in ("invalid_client", "unauthorized_client"):
                raise IssuerUnavailable("token endpoint refused `client_id` or `client_secret` of admin.oidc")
            raise LoginRefused("the issuer did not accept the code of the redirect")
        token = found.get("id_token")
        if reply.status != 200 or not isinstance(token, str):
            raise IssuerUnavailable(f"token endpoint responded {reply.status} without an ID token")
        return token

    async def _fetch(self) -> Metadata:
        issuer = self.rules.issuer
        found = await self._read("discovery", issuer.removesuffix("/") + _WELL_KNOWN)
        if found.get("issuer") != issuer:
            raise IssuerUnavailable("discovery has another `issuer` than admin.oidc.issuer")
        methods = found.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        keys = (await self._read("keys", _endpoint(found, "jwks_uri"))).get("keys")
        if not isinstance(methods, list) or not isinstance(keys, list):
            raise IssuerUnavailable("discovery or the set of keys is malformed")
        return Metadata(
            _endpoint(found, "authorization_endpoint"),
            _endpoint(found, "token_endpoint"),
            "client_secret_post" in methods and "client_secret_basic" not in methods,
            found.get("authorization_response_iss_parameter_supported") is True,
            tuple(key for key in keys if isinstance(key, dict)),
        )

    async def _read(self, step: str, url: str) -> dict[str, Any]:
        reply = await self._call(step, "GET", url)
        found = json_object(reply.body) if reply.status == 200 else None
        if found is None:
            raise IssuerUnavailable(f"{step} responded {reply.status} without a JSON object")
        return found

    async def _call(self, step: str, method: str, url: str, headers: Pairs = (), body: bytes = b"") -> Reply:
        call = Call(step, method, url, (("Accept", "application/json"), *headers), body)
        try:
            return await self._fetcher.fetch(
                call,
                trust=self.rules.trust,
                allow_private=self.rules.allow_private,
                source_address=None,
                timeout=_TIMEOUT,
                max_size=_MAX_RESPONSE_SIZE,
            )
        except CallError as fault:
            raise IssuerUnavailable(fault.reason) from None


def _endpoint(found: Mapping[str, Any], name: str) -> str:
    """Return the URL of an endpoint. Plain HTTP would let anybody on the way log in as anybody."""
    url = found.get(name)
    if isinstance(url, str):
        try:
            if parse_target(url).origin.scheme == "https":
                return url
        except InvalidTarget:
            pass
    raise IssuerUnavailable(f"discovery has no https URL in `{name}`")
