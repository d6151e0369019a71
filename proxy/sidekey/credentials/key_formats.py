"""How a secret that is a key is written: as the text itself, or in base64 or hex."""

from __future__ import annotations

import re
from base64 import b64decode
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SecretEncoding = Literal["text", "base64", "hex"]

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_URL_SAFE = str.maketrans("-_", "+/")


def decoded(text: str, encoding: SecretEncoding) -> bytes:
    """The bytes of a secret. Raises ValueError, which repeats nothing of it."""
    if encoding == "text":
        return text.encode()
    if encoding == "hex":
        if not _HEX.fullmatch(text):
            raise ValueError("must be hex, as secret_encoding says: two digits a byte")
        return bytes.fromhex(text)
    # RFC 4648 4 and 5: no text is valid in both alphabets and means something else; padding tells nothing more.
    bare = text.rstrip("=").translate(_URL_SAFE)
    try:
        return b64decode(f"{bare}{'=' * (-len(bare) % 4)}", validate=True)
    except ValueError:
        raise ValueError("must be base64, as secret_encoding says (RFC 4648)") from None


PrivateKey: TypeAlias = PrivateKeyTypes

LEAST_RSA_BITS: Final = 2048
"""RFC 7518 3.3 and 3.5 for JWTs; no signature of ours is made with less."""

MAX_RSA_BITS: Final = 4096
"""Tokens are signed on the event loop: with 4096 bits in 2 ms, with 8192 in 36."""


class _Proven:
    """Which texts are RSA keys whose numbers were proven prime, which takes 36 ms a key.

    A load of the config reads each key several times, and a reload reads all of them. Known are digests alone: a key
    that is no longer in use is not kept.
    """

    _MOST: Final = 10_000

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        """Know another; where there are too many, begin again."""
        if len(self._digests) >= self._MOST:
            self._digests.clear()
        self._digests.add(digest)


_PROVEN: Final = _Proven()


def read_private_key(pem: str) -> PrivateKey:
    """The private key in `pem`, of any type. Raises ValueError where there is none, or one that is too short."""
    try:
        data = pem.encode()
        digest = sha256(data).digest()
        proven = digest in _PROVEN
        key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=proven)
    except TypeError:
        raise ValueError("the private key must not be encrypted: write it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a private key in PEM") from None
    if isinstance(key, RSAPrivateKey):
        if not LEAST_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"an RSA key must have {LEAST_RSA_BITS} to {MAX_RSA_BITS} bits")
        if not proven:
            _PROVEN.add(digest)
    return key
