"""How keys of signatures are written in secrets. Raises ValueError for what is none, without repeating it."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from typing import Literal

from sidekey.credentials.signatures.keys import Hmac, SigningKey

SecretEncoding = Literal["text", "base64", "hex"]

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


def decode(secret: str, encoding: SecretEncoding) -> bytes:
    """The bytes of a key as they are written. Raises ValueError, which never repeats them."""
    if encoding == "text":
        return secret.encode()
    if encoding == "hex":
        if not _HEX.fullmatch(secret):
            raise ValueError("must be hexadecimal digits, two for each byte, as secret_encoding says")
        return bytes.fromhex(secret)
    return _from_base64(secret, "must be base64 with + and /, as secret_encoding says")


def webhook_key(secret: str) -> SigningKey:
    """A key as Standard Webhooks writes it: `whsec_`, or `whsk_` for Ed25519. Raises ValueError.

    What is behind `whsk_` the specification calls a standard key pair: `private_keys.from_pair`.
    """
    prefix, _, rest = secret.partition("_")
    if prefix == "whsec":
        key = _from_base64(rest, "must be base64 behind whsec_")
        if not 24 <= len(key) <= 64:
            raise ValueError("must be 24 to 64 bytes in base64 behind whsec_ (Standard Webhooks)")
        return Hmac(key, "hmac-sha256")
    if prefix != "whsk":
        raise ValueError("must begin with whsec_, or with whsk_ for an Ed25519 key (Standard Webhooks)")
    from sidekey.credentials.signatures import private_keys  # noqa: PLC0415 - cryptography, only where it is needed

    return private_keys.from_pair(_from_base64(rest, "must be base64 behind whsk_"))


def _from_base64(text: str, reason: str) -> bytes:
    """The bytes of a text that may lack its padding, as receivers accept it too."""
    bare = text.rstrip("=")
    if not bare or not _BASE64.fullmatch(text):
        raise ValueError(reason)
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except Error:
        raise ValueError(reason) from None
