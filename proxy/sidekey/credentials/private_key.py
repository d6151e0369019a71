"""Private keys that sign, read from PEM. Imported only where one is configured."""

from __future__ import annotations

from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PrivateKey: TypeAlias = PrivateKeyTypes

LEAST_RSA_BITS: Final = 2048
"""RFC 7518 3.3 and 3.5 for JWTs; no signature of ours is made with less."""


def read_private_key(pem: str) -> PrivateKey:
    """The private key in `pem`, of any type. Raises ValueError where there is none, or one that is too short."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("the private key must not be encrypted: write it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a private key in PEM") from None
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"an RSA key must have at least {LEAST_RSA_BITS} bits (RFC 7518 3.3)")
    return key
