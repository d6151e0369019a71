"""Signed assertions (RFC 7523): they authenticate a client by its private key or its secret, or are the grant.

Importing this module fails without joserfc, which is an extra.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sidekey.credentials.base import Sealed
from sidekey.credentials.jose import TokenSigner
from sidekey.credentials.oauth2.parameters import Parameters

LIFE = 120
"""Seconds an assertion is good for: well under the five minutes that servers accept, whose clock may differ."""


@dataclass(frozen=True, slots=True, repr=False)
class Assertion(Sealed):
    """What is signed each time: by whom, and the claims that stay the same. An empty `subject` is left out."""

    signer: TokenSigner
    issuer: str
    subject: str
    audience: str
    claims: Parameters = ()

    def __repr__(self) -> str:
        return f"Assertion({self.signer!r})"

    def sign(self, now: float) -> str:
        """A new assertion as a compact JWS; `now` is in seconds since the epoch."""
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(now) + LIFE,
            # RFC 7523 3: a server may refuse one it saw before.
            "jti": secrets.token_urlsafe(16),
            **dict(self.claims),
        }
        if self.subject:
            claims["sub"] = self.subject
        return self.signer.sign(claims)
