"""Private keys that sign, read from PEM. Imported only where one is configured."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PrivateKey: TypeAlias = PrivateKeyTypes

LEAST_RSA_BITS: Final = 2048
"""RFC 7518 3.3 and 3.5 for JWTs; no signature of ours is made with less."""


class _Proof:
    """Whether a PEM was read before, with what its key is made of proved to fit together."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False


@lru_cache(maxsize=1024)
def _proof(digest: bytes) -> _Proof:
    """That of the PEM with this SHA-256 digest: no key is kept here."""
    del digest
    return _Proof()


def read_private_key(pem: str) -> PrivateKey:
    """The private key in `pem`, of any type. Raises ValueError where there is none, or one that is too short.

    A load of the config reads each key several times, and a reload does again what has not changed: an RSA key's
    numbers, which take 36 ms, are proved the first time.
    """
    data = pem.encode()
    proof = _proof(sha256(data).digest())
    try:
        key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=proof.done)
    except TypeError:
        raise ValueError("the private key must not be encrypted: write it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a private key in PEM") from None
    proof.done = True
    if isinstance(key, RSAPrivateKey) and key.key_size < LEAST_RSA_BITS:
        raise ValueError(f"an RSA key must have at least {LEAST_RSA_BITS} bits (RFC 7518 3.3)")
    return key
