"""Tokens that Sidekey makes, for operators and for callers: only their SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

PREFIX: Final = "sidekey_"
"""What they begin with, so that scanners for leaked secrets find them."""


def new_token() -> tuple[str, str]:
    """A token of 32 random bytes, and the SHA-256 of it in hexadecimal."""
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    return token, digest_of(token)


def digest_of(token: str) -> str:
    """The SHA-256 of a token's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
