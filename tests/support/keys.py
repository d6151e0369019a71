"""Private keys for the algorithms of JSON Web Tokens and of RFC 9421."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

CURVES: Final = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
    "ecdsa-p256-sha256": ec.SECP256R1(),
}
# One key for all RSA algorithms, because a new one takes 50 ms and more.
_RSA: Final = rsa.generate_private_key(65537, 2048)


@cache
def private_key(algorithm: str) -> Any:
    """Return the key for an algorithm, or one of Ed448, or an RSA key that is too small."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm])
    if algorithm in ("EdDSA", "Ed25519", "ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "Ed448":
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024) if algorithm == "small" else _RSA
