"""Keys that sign a text in pieces: HMAC, Ed25519, ECDSA and RSA, and how secrets and PEM encode them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512

from sidekey.credentials.key_formats import SecretEncoding, decode_secret, read_private_key
from sidekey.credentials.secret_holder import SecretHolder

HmacAlgorithm = Literal["hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"]

_HASHES: Mapping[str, Callable[[bytes], hashlib._Hash]] = MappingProxyType(
    {
        "hmac-sha1": hashlib.sha1,
        "hmac-sha256": hashlib.sha256,
        "hmac-sha384": hashlib.sha384,
        "hmac-sha512": hashlib.sha512,
    }
)
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class SigningKey(SecretHolder, ABC):
    """A key that signs.

    `asymmetric`: the receiver verifies with a public key. `slow`: sign in a thread.
    """

    __slots__ = ()

    asymmetric = False
    slow = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(REDACTED)"

    @abstractmethod
    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """Return the signature over the concatenated pieces."""


class Hmac(SigningKey):
    """HMAC (RFC 2104) with an `HmacAlgorithm`.

    It hashes both padded keys only once (section 4), which halves the cost of a short text.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, algorithm: str) -> None:
        new = _HASHES[algorithm]
        size = new(b"").block_size
        padded = (new(key).digest() if len(key) > size else key).ljust(size, b"\0")
        self._inner = new(padded.translate(_INNER))
        self._outer = new(padded.translate(_OUTER))

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """Return the complete code."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()


class Ed25519(SigningKey):
    """Ed25519 (RFC 8032). It needs the text in one piece."""

    __slots__ = ("_key",)

    asymmetric = True

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """Return 64 bytes."""
        return self._key.sign(b"".join(pieces))


class EcdsaP256(SigningKey):
    """ECDSA on P-256 with SHA-256 (RFC 9421 3.3.4)."""

    __slots__ = ("_key",)

    asymmetric = True

    def __init__(self, key: EllipticCurvePrivateKey) -> None:
        self._key = key

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """Return the numbers r and s, 32 bytes each."""
        r, s = decode_dss_signature(self._key.sign(b"".join(pieces), ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class RsaPss(SigningKey):
    """RSASSA-PSS with SHA-512 (RFC 9421 3.3.1)."""

    __slots__ = ("_key",)

    asymmetric = True
    slow = True

    def __init__(self, key: RSAPrivateKey) -> None:
        self._key = key

    def sign(self, pieces: Sequence[bytes]) -> bytes:
        """Return a signature as long as the key's modulus."""
        return self._key.sign(b"".join(pieces), PSS(MGF1(SHA512()), SHA512.digest_size), SHA512())


def ed25519_from_pair(pair: bytes) -> SigningKey:
    """Parse an Ed25519 key of Standard Webhooks: 32 bytes, or 64 with the public key (Svix). Raises ValueError."""
    if len(pair) not in (32, 64):
        raise ValueError("must be an Ed25519 key in base64 behind whsk_: 32 bytes, or 64 with the public key")
    private = Ed25519PrivateKey.from_private_bytes(pair[:32])
    if len(pair) == 64 and private.public_key().public_bytes_raw() != pair[32:]:
        raise ValueError("must have the public key that goes with the private one in its last 32 bytes")
    return Ed25519(private)


def load_key(pem: str, algorithm: str | None) -> tuple[SigningKey, str]:
    """Parse the private key of an asymmetric algorithm from PEM. Return it and its thumbprint. Raises ValueError."""
    key = read_private_key(pem)
    if algorithm == "ed25519":
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("must be an Ed25519 key, as algorithm says")
        return Ed25519(key), _thumbprint(crv="Ed25519", kty="OKP", x=key.public_key().public_bytes_raw())
    if algorithm == "ecdsa-p256-sha256":
        if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
            raise ValueError("must be a key on the curve P-256, as algorithm says")
        point = key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
        return EcdsaP256(key), _thumbprint(crv="P-256", kty="EC", x=x, y=y)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("must be an RSA key, as algorithm says")  # noqa: TRY004 - a reason to show, as the others
    numbers = key.public_key().public_numbers()
    e, n = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.e, numbers.n))
    return RsaPss(key), _thumbprint(e=e, kty="RSA", n=n)


def _thumbprint(**members: str | bytes) -> str:
    """Hash the required members of a public key, sorted by name (RFC 7638 3)."""
    key = {name: value if isinstance(value, str) else _base64url(value) for name, value in members.items()}
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return _base64url(hashlib.sha256(text.encode()).digest())


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def load_hmac_key(secret: str, encoding: SecretEncoding, algorithm: str) -> SigningKey:
    """Decode a key for HMAC. Raises ValueError."""
    key = decode_secret(secret, encoding)
    if not key:
        raise ValueError("must not be an empty key")
    return Hmac(key, algorithm)


def load_webhook_key(secret: str) -> SigningKey:
    """Parse a key of Standard Webhooks: `whsec_` for HMAC, `whsk_` for Ed25519. Raises ValueError."""
    prefix, _, encoded = secret.partition("_")
    if prefix == "whsec":
        key = _from_base64(encoded, "whsec_")
        if not 24 <= len(key) <= 64:
            raise ValueError("must be 24 to 64 bytes in base64 behind whsec_ (Standard Webhooks)")
        return Hmac(key, "hmac-sha256")
    if prefix != "whsk":
        raise ValueError("must begin with whsec_, or with whsk_ for an Ed25519 key (Standard Webhooks)")
    return ed25519_from_pair(_from_base64(encoded, "whsk_"))


def _from_base64(text: str, prefix: str) -> bytes:
    try:
        return decode_secret(text, "base64")
    except ValueError:
        raise ValueError(f"must be base64 behind {prefix} (Standard Webhooks)") from None
