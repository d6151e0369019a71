"""Platforms that issue no token: they verify a JWT that the caller has signed, each by rules of its own.

As they say: https://docs.ghost.org/admin-api/#token-authentication and Ghost's own check (`api-key/admin.js`),
https://developer.apple.com/documentation/appstoreconnectapi/generating-tokens-for-api-requests,
https://docs.snowflake.com/en/developer-guide/sql-api/authenticating and its page on errors of key pairs.
"""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.server import FakeResponse, Host, Platform, ReceivedRequest, RefusedError
from support.private_ca import Authority

GHOST_ID, GHOST_SECRET = "6489d2cf3f1a2b0001a7e5b1", "0123456789abcdef" * 4
ISSUER_ID, KEY_ID = "57246542-96fe-1a63-e053-0824d011072a", "2X9R4HXF34"
ACCOUNT, USER = "MYORG-MYACCOUNT", "SVC_SIDEKEY"


class Ghost(Platform):
    """`async with Ghost(ca) as ghost`: it verifies with the secret, and refuses a token older than 5 minutes."""

    api = "/ghost/api/admin/posts/"

    def __init__(self, ca: Authority) -> None:
        self.host = Host("acme.ghost.io", self._respond)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        scheme, _, token = (received.value("authorization") or "").partition(" ")
        if scheme.lower() != "ghost":
            raise self._error(401, 'Authorization header format is "Authorization: Ghost [token]"')
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise self._error(400, "Invalid token") from None
        if header.get("kid") != GHOST_ID:
            raise self._error(401, "Unknown Admin API Key")
        try:
            claims = jwt.decode(token, bytes.fromhex(GHOST_SECRET), algorithms=["HS256"], audience="/admin/")
        except jwt.InvalidTokenError:
            raise self._error(401, "Invalid token: invalid signature") from None
        if claims["iat"] + 300 <= time.time():
            raise self._error(401, "Invalid token: maxAge exceeded")
        if received.path != self.api:
            raise self._error(404, "Resource not found")
        return FakeResponse.json(200, {"posts": []})

    @staticmethod
    def _error(status: int, message: str) -> RefusedError:
        return RefusedError(FakeResponse.json(status, {"errors": [{"message": message}]}))


class AppStoreConnect(Platform):
    """`async with AppStoreConnect(ca, public) as apple`: it verifies with the team's key, for at most 20 minutes."""

    api = "/v1/apps"

    def __init__(self, ca: Authority, public: EllipticCurvePublicKey) -> None:
        self._public = public
        self.host = Host("api.appstoreconnect.apple.com", self._respond)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        claims, header = _verified(received, self._public, "ES256", audience="appstoreconnect-v1", issuer=ISSUER_ID)
        if claims is None or header.get("kid") != KEY_ID or claims["exp"] > time.time() + 1200:
            error = {
                "status": "401",
                "code": "NOT_AUTHORIZED",
                "title": "Authentication credentials are missing or invalid.",
            }
            raise RefusedError(FakeResponse.json(401, {"errors": [error]}))
        if received.path != self.api:
            raise RefusedError(FakeResponse.json(404, {"errors": [{"status": "404", "code": "NOT_FOUND"}]}))
        return FakeResponse.json(200, {"data": [], "meta": {"paging": {"total": 0}}})


class Snowflake(Platform):
    """`async with Snowflake(ca, public) as snowflake`: the issuer names the signer and the key's fingerprint."""

    api = "/api/v2/statements"

    def __init__(self, ca: Authority, public: RSAPublicKey) -> None:
        self._public = public
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.issuer = f"{ACCOUNT}.{USER}.SHA256:{base64.b64encode(hashlib.sha256(der).digest()).decode()}"
        self.host = Host(f"{ACCOUNT.lower()}.snowflakecomputing.com", self._respond)
        super().__init__(ca, self.host)

    def _respond(self, received: ReceivedRequest) -> FakeResponse:
        claims, _ = _verified(received, self._public, "RS256", issuer=self.issuer)
        token_type = received.value("x-snowflake-authorization-token-type")
        good = claims is not None and claims.get("sub") == f"{ACCOUNT}.{USER}" and token_type in (None, "KEYPAIR_JWT")
        # "The JWT is valid for at most one hour after the token is issued".
        if claims is None or not good or claims["exp"] > claims["iat"] + 3600:
            message = "JWT token is invalid. [0ce9eb56-821d-4ca9-a774-04ae89a0cf5a]"
            raise RefusedError(FakeResponse.json(401, {"code": "390144", "message": message, "success": False}))
        if received.path != self.api:
            raise RefusedError(FakeResponse.json(404, {"code": "390404"}))
        return FakeResponse.json(200, {"code": "090001", "data": []})


def _verified(
    received: ReceivedRequest,
    public: EllipticCurvePublicKey | RSAPublicKey,
    algorithm: str,
    *,
    issuer: str,
    audience: str | None = None,
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return claims and header of a bearer token if both are valid for the platform."""
    scheme, _, token = (received.value("authorization") or "").partition(" ")
    try:
        claims = jwt.decode(
            token,
            public,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "iat"]},
        )
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError:
        return None, {}
    return (claims if scheme == "Bearer" else None), header
