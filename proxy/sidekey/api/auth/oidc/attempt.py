"""A log-in that was begun: everything about it comes from random bytes in a cookie, so any process can finish it."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final, Self

from sidekey.credentials.secret_holder import SecretHolder

LIFE: Final = 300
"""Seconds that a browser keeps the cookie."""

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Attempt(SecretHolder):
    """The values that bind a log-in to the browser that began it.

    Hashes of random bytes need no key: Sidekey gives such bytes to anybody who asks.
    """

    __slots__ = ("_random", "nonce", "state", "verifier")

    def __init__(self, random: bytes) -> None:
        self._random = random
        self.state = self._derive("state")
        self.nonce = self._derive("nonce")
        self.verifier = self._derive("verifier")

    @classmethod
    def begin(cls) -> Self:
        """Begin with new random bytes."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def of(cls, cookie: str) -> Self | None:
        """Return the attempt of a cookie, or None if the cookie is gone or is not one of Sidekey's."""
        return cls(urlsafe_b64decode(f"{cookie}=")) if _COOKIE.fullmatch(cookie) else None

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return _encode(self._random)

    @property
    def challenge(self) -> str:
        """The code challenge S256 (RFC 7636 4.2)."""
        return _encode(sha256(self.verifier.encode()).digest())

    def began(self, state: str) -> bool:
        """Return True if this attempt made a state."""
        return hmac.compare_digest(self.state.encode(), state.encode())

    def _derive(self, purpose: str) -> str:
        return _encode(sha256(f"sidekey oidc {purpose}".encode() + self._random).digest())


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
