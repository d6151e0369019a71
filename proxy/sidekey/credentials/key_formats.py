"""Keys in a config: secrets as text, base64 or hex, and private keys in PEM."""

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


def decode_secret(text: str, encoding: SecretEncoding) -> bytes:
    """Decode a secret. Raises ValueError, which does not contain the secret."""
    if encoding == "text":
        return text.encode()
    if encoding == "hex":
        if not _HEX.fullmatch(text):
            raise ValueError("must be hex, as secret_encoding says: two digits a byte")
        return bytes.fromhex(text)
    # RFC 4648 4 and 5: a text that is valid in both alphabets has the same value, and padding is redundant.
    unpadded = text.rstrip("=").translate(_URL_SAFE)
    try:
        return b64decode(f"{unpadded}{'=' * (-len(unpadded) % 4)}", validate=True)
    except ValueError:
        raise ValueError("must be base64, as secret_encoding says (RFC 4648)") from None


PrivateKey: TypeAlias = PrivateKeyTypes

MIN_RSA_BITS: Final = 2048
"""RFC 7518 3.3 and 3.5 require it for JWTs. Sidekey applies it to every signature."""

MAX_RSA_BITS: Final = 4096
"""Sidekey signs on the event loop, which takes 2 ms with 4096 bits and 36 ms with 8192."""


class _ProvenKeys:
    """Digests of RSA keys whose numbers were proven prime, which takes 36 ms a key.

    A config load reads each key several times, and a reload reads all keys again. The cache holds no key itself.
    """

    _MAX_DIGESTS: Final = 10_000

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def add(self, digest: bytes) -> None:
        """Add a digest. Clear the cache first if it is full."""
        if len(self._digests) >= self._MAX_DIGESTS:
            self._digests.clear()
        self._digests.add(digest)


_PROVEN: Final = _ProvenKeys()


def read_private_key(pem: str) -> PrivateKey:
    """Load a private key of any type from PEM. Raises ValueError if it is invalid, encrypted or of a bad size."""
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
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise ValueError(f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
        if not proven:
            _PROVEN.add(digest)
    return key
