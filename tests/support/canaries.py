"""Secrets that tests search for in every output."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote


def forms(secret: bytes) -> set[bytes]:
    """Return a secret in plain text, in base64 at each offset, in hexadecimal, and percent-encoded in two ways."""
    encodings = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    encodings |= {quote(secret, safe="").encode(), "".join(f"%{byte:02X}" for byte in secret).encode()}
    for offset in range(3):
        encoded = b64encode(bytes(offset) + secret).rstrip(b"=")
        # The first and the last characters also contain bits of the neighbouring bytes.
        encodings.add(encoded[4 if offset else 0 : -2])
    return encodings
