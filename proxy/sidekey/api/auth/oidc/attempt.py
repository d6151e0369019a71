"""A started log-in. Random bytes in a cookie determine all its values, so any process can finish it."""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Final, Self

from sidekey.credentials.secret_holder import SecretHolder

COOKIE_LIFETIME: Final = 300
"""Seconds until the browser deletes the cookie."""

_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Attempt(SecretHolder):
    """The values that bind a log-in to the browser that began it.

    They are plain hashes of the random bytes. A key would protect nothing: anybody can ask Sidekey for an attempt.
    """

    __slots__ = ("_random", "nonce", "state", "verifier")

    def __init__(self, random: bytes) -> None:
        self._random = random
        self.state = self._derive("state")
        self.nonce = self._derive("nonce")
        self.verifier = self._derive("verifier")

    @classmethod
    def begin(cls) -> Self:
        """Create an attempt with new random bytes."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def of(cls, cookie: str) -> Self | None:
        """Restore the attempt from its cookie, or return None if the cookie is malformed."""
        return cls(urlsafe_b64decode(f"{cookie}=")) if _COOKIE.fullmatch(cookie) else None

    @property
    def cookie(self) -> str:
        """The value of the cookie."""
        return _encode(self._random)

    @property
    def challenge(self) -> str:
        """The code challenge S256 (RFC 7636 4.2)."""
        return _encode(sha256(self.verifier.encode()).digest())

    def has_state(self, state: str) -> bool:
        """Return True if the state is that of this attempt."""
        return hmac.compare_digest(self.state.encode(), state.encode())

    def _derive(self, purpose: str) -> str:
        return _encode(sha256(f"sidekey oidc {purpose}".encode() + self._random).digest())


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
