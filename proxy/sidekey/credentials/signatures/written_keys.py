"""How keys of signatures are written in secrets. Raises ValueError for what is none, without repeating it."""

from __future__ import annotations

from sidekey.credentials.encodings import SecretEncoding, decoded
from sidekey.credentials.signatures import private_keys
from sidekey.credentials.signatures.keys import Hmac, SigningKey


def hmac_key(secret: str, encoding: SecretEncoding, algorithm: str) -> SigningKey:
    """A key for a keyed hash."""
    key = decoded(secret, encoding)
    if not key:
        raise ValueError("must not be an empty key")
    return Hmac(key, algorithm)


def webhook_key(secret: str) -> SigningKey:
    """A key as Standard Webhooks writes it: `whsec_`, or `whsk_` for Ed25519.

    What is behind `whsk_` the specification calls a standard key pair: `private_keys.from_pair`.
    """
    prefix, _, rest = secret.partition("_")
    if prefix == "whsec":
        key = _from_base64(rest, "whsec_")
        if not 24 <= len(key) <= 64:
            raise ValueError("must be 24 to 64 bytes in base64 behind whsec_ (Standard Webhooks)")
        return Hmac(key, "hmac-sha256")
    if prefix != "whsk":
        raise ValueError("must begin with whsec_, or with whsk_ for an Ed25519 key (Standard Webhooks)")
    return private_keys.from_pair(_from_base64(rest, "whsk_"))


def _from_base64(text: str, prefix: str) -> bytes:
    try:
        return decoded(text, "base64")
    except ValueError:
        raise ValueError(f"must be base64 behind {prefix} (Standard Webhooks)") from None
