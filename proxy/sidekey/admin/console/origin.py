"""Tells requests of our own pages from those that other sites make a browser send."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_BYTES: Final = 32


def is_same_origin(headers: Mapping[str, str], *, tls: bool, behind_tls: bool, names: frozenset[str]) -> bool:
    """Whether a request that may change something comes from a page of this listener.

    Every browser sends Origin with it (Fetch Standard, "append a request Origin header"), as long as no policy of ours
    suppresses the referrer altogether. Behind a proxy the origin is https, and its name one of `names`.
    """
    origin = headers.get("Origin", "")
    if headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    if not origin.isascii():
        return False
    host = headers.get("Host", "").lower()
    if not behind_tls:
        return bool(host) and hmac.compare_digest(origin.encode(), f"{'https' if tls else 'http'}://{host}".encode())
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme != "https" or parts.hostname not in names or origin != f"https://{parts.netloc}":
        return False
    # A proxy that passes Host on tells the port as well; one that does not is reached at the usual one.
    return parts.netloc in {parts.hostname, host}


class CrossSiteToken:
    """What a form must send back: derived from a secret that only this browser has, masked differently each time.

    A response that is compressed tells by its length what in it repeats (BREACH); a mask leaves nothing to repeat.
    """

    def __init__(self, secret: str) -> None:
        self._value = hashlib.sha256(b"sidekey form v1\n" + secret.encode()).digest()

    def masked(self) -> str:
        """The token, as one form has it."""
        mask = secrets.token_bytes(_BYTES)
        return base64.urlsafe_b64encode(mask + _xor(mask, self._value)).decode()

    def accepts(self, sent: str) -> bool:
        """Whether a form sent the token back."""
        try:
            raw = base64.urlsafe_b64decode(sent.encode())
        except ValueError:
            return False
        return len(raw) == 2 * _BYTES and hmac.compare_digest(_xor(raw[:_BYTES], raw[_BYTES:]), self._value)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
