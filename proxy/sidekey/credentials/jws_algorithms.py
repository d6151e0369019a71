"""Algorithms of JSON Web Tokens (RFC 7518 3.1, RFC 8037, RFC 9864). Needs no extra, unlike `jose` and `jws`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal, get_args

KeyPairAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Algorithms that sign with a private key."""

SecretAlgorithm = Literal["HS256", "HS384", "HS512"]
"""Algorithms that sign with a shared secret."""

Algorithm = Literal[KeyPairAlgorithm, SecretAlgorithm]

KEY_PAIR_ALGORITHMS: tuple[str, ...] = get_args(KeyPairAlgorithm)
SECRET_ALGORITHMS: tuple[str, ...] = get_args(SecretAlgorithm)


def min_secret_size(algorithm: str) -> int:
    """Return the minimum secret size of an algorithm in bytes: the size of its hash (RFC 7518 3.2)."""
    return int(algorithm[2:]) // 8


def algorithm_of(key: Mapping[str, Any]) -> str:
    """Return the algorithm, RS256 or ES256, that a public key (JWK) verifies, or an empty string for any other key."""
    kind = f"{key.get('kty')} {key.get('crv')}"
    algorithm = {"RSA None": "RS256", "EC P-256": "ES256"}.get(kind, "")
    return algorithm if key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm else ""


def check_library(feature: str) -> None:
    """Raise ValueError if the extra `jwt` is not installed."""
    try:
        import_module("joserfc")
    except ImportError:
        raise ValueError(f"{feature} need joserfc: install from the checkout with the extra jwt") from None
