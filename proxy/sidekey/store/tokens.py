"""Tokens that Sidekey generates for operators and callers. Only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

PREFIX: Final = "sidekey_"
"""The prefix by which scanners for leaked secrets recognize them."""


def new_token() -> tuple[str, str]:
    """Generate a token of 32 random bytes, and return it with its SHA-256 in hexadecimal."""
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
