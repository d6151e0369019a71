"""Rules of RFC 6749 and RFC 6750 that the fakes of OAuth platforms share."""

from __future__ import annotations

import base64
import binascii
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_plus

from fakes.server import FakeResponse, ReceivedRequest, RefusedError

CLIENT_ID = "client-1"
CLIENT_SECRET = "s3cret/+ &=%:~"
"""It holds what form-encoding must change: a client that skips RFC 6749 2.3.1 or appendix B fails."""


@dataclass(frozen=True, slots=True)
class Token:
    """An issued access token."""

    value: str
    scope: str
    expires_at: float
    """On the clock of time.monotonic."""


class Tokens:
    """The access tokens of a platform. They end when they expire, or all together by `revoke`."""

    def __init__(self, expires_in: int) -> None:
        self.expires_in = expires_in
        """Lifetime of new tokens in seconds, as the response states it."""
        self.issued: list[Token] = []
        """In order, also those that ended."""
        self._valid: dict[str, Token] = {}
        self._numbers = itertools.count(1)

    def issue(self, scope: str = "") -> Token:
        """Issue a token; older ones stay valid."""
        # Characters of b64token (RFC 6750 2.1) that a careless client would encode.
        token = Token(f"tok-{next(self._numbers)}.~+/a==", scope, time.monotonic() + self.expires_in)
        self.issued.append(token)
        self._valid[token.value] = token
        return token

    def revoke(self) -> None:
        """End every token issued so far."""
        self._valid.clear()

    def find(self, value: str) -> Token | None:
        """Return the token with this value, or None if it is unknown, revoked or expired."""
        token = self._valid.get(value)
        return token if token is not None and time.monotonic() < token.expires_at else None


def error(status: int, code: str, description: str = "", headers: Mapping[str, str] | None = None) -> RefusedError:
    """A token endpoint's error response (RFC 6749 5.2)."""
    return RefusedError(FakeResponse.json(status, {"error": code, "error_description": description}, headers))


def expect_post(received: ReceivedRequest, path: str) -> None:
    """Refuse anything but a POST (RFC 6749 3.2) and secrets in the URL (2.3.1)."""
    if received.path != path:
        raise RefusedError(FakeResponse.json(404, {"error": "not_found"}))
    if received.method != "POST":
        raise RefusedError(FakeResponse(405, (("Allow", "POST"),)))
    if received.query:
        raise error(400, "invalid_request", "parameters belong into the body")


def form(received: ReceivedRequest) -> dict[str, str]:
    """Parse a form body (RFC 6749 appendix B): UTF-8, each parameter once, empty ones omitted (3.2)."""
    if received.media_type != "application/x-www-form-urlencoded":
        raise error(400, "invalid_request", "the Content-Type must be application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(received.body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        raise error(400, "invalid_request", "the body is no form") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise error(400, "invalid_request", "a parameter came twice")
    return {name: value for name, value in fields.items() if value}


def expect_grant(fields: Mapping[str, object], grant: str = "client_credentials") -> None:
    """RFC 6749 4.4.2 and 5.2."""
    if "grant_type" not in fields:
        raise error(400, "invalid_request", "grant_type is missing")
    if fields["grant_type"] != grant:
        raise error(400, "unsupported_grant_type")


def basic(received: ReceivedRequest) -> tuple[str, str] | None:
    """Return client ID and secret from HTTP Basic, form-decoded (RFC 6749 2.3.1), or None if absent or malformed."""
    scheme, _, credentials = (received.value("authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = base64.b64decode(credentials, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (unquote_plus(username), unquote_plus(password)) if colon else None


def bearer(received: ReceivedRequest) -> str:
    """Return the token of `Authorization: Bearer` (RFC 6750 2.1), or an empty string."""
    scheme, _, token = (received.value("authorization") or "").partition(" ")
    return token if scheme == "Bearer" else ""


def bearer_response(token: Token, **more: object) -> FakeResponse:
    """RFC 6749 5.1."""
    life = round(token.expires_at - time.monotonic())
    return FakeResponse.json(200, {"access_token": token.value, "token_type": "Bearer", "expires_in": life} | more)
