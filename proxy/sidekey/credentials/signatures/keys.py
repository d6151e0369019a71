"""What signs a text: keyed hashes, and private keys. Each takes the text in pieces."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidekey.credentials.base import Sealed

SecretEncoding = Literal["text", "base64", "hex"]
HmacAlgorithm = Literal["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]

_HASHES: Mapping[HmacAlgorithm, Callable[[bytes], hashlib._Hash]] = MappingProxyType(
    {
        "hmac-sha1": hashlib.sha1,
        "hmac-sha256": hashlib.sha256,
        "hmac-sha384": hashlib.sha384,
        "hmac-sha512": hashlib.sha512,
    }
)
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")


class Key(Sealed, ABC):
    """A key that signs. It is not shown."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(REDACTED)"

    @abstractmethod
    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """The signature over the pieces, one behind the other."""


class Hmac(Key):
    """HMAC (RFC 2104). What the key alone decides is computed once (section 4): `hmac` costs twice as much a text."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, algorithm: HmacAlgorithm) -> None:
        new = _HASHES[algorithm]
        size = new(b"").block_size
        padded = (new(key).digest() if len(key) > size else key).ljust(size, b"\0")
        self._inner = new(padded.translate(_INNER))
        self._outer = new(padded.translate(_OUTER))

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """The code, whole."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()


class Ed25519(Key):
    """Ed25519 (RFC 8032), which needs the text in one piece."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """64 bytes."""
        return self._key.sign(b"".join(pieces))


def decode(secret: str, encoding: SecretEncoding) -> bytes:
    """The bytes of a key as they are written. Raises ValueError, which never repeats them."""
    if encoding == "text":
        return secret.encode()
    if encoding == "hex":
        if not _HEX.fullmatch(secret):
            raise ValueError("must be hexadecimal digits, two for each byte, as secret_encoding says")
        return bytes.fromhex(secret)
    return _from_base64(secret, "must be base64 with + and /, as secret_encoding says")


def webhook_key(secret: str) -> Key:
    """A key as Standard Webhooks writes it: `whsec_`, or `whsk_` for Ed25519. Raises ValueError.

    The specification says only that a `whsk_` key is a standard key pair. Svix has the private key with the public
    one behind it there; others have the private one alone.
    """
    prefix, _, rest = secret.partition("_")
    if prefix == "whsec":
        key = _from_base64(rest, "must be base64 behind whsec_")
        if not 24 <= len(key) <= 64:
            raise ValueError("must be 24 to 64 bytes in base64 behind whsec_ (Standard Webhooks)")
        return Hmac(key, "hmac-sha256")
    if prefix != "whsk":
        raise ValueError("must begin with whsec_, or with whsk_ for an Ed25519 key (Standard Webhooks)")
    pair = _from_base64(rest, "must be base64 behind whsk_")
    if len(pair) not in (32, 64):
        raise ValueError("must be an Ed25519 key in base64 behind whsk_: 32 bytes, or 64 with the public key")
    private = Ed25519PrivateKey.from_private_bytes(pair[:32])
    if len(pair) == 64 and private.public_key().public_bytes_raw() != pair[32:]:
        raise ValueError("must have the public key that goes with the private one in its last 32 bytes")
    return Ed25519(private)


def _from_base64(text: str, reason: str) -> bytes:
    """The bytes of a text that may lack its padding, as receivers accept it too."""
    bare = text.rstrip("=")
    if not bare or not _BASE64.fullmatch(text):
        raise ValueError(reason)
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except Error:
        raise ValueError(reason) from None
