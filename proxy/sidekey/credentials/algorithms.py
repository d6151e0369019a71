"""The algorithms that tokens are signed with (RFC 7518 3.1, RFC 8037, RFC 9864), and what they need."""

from __future__ import annotations

from importlib import import_module
from typing import Literal, get_args

PairAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Those that sign by a private key."""

SecretAlgorithm = Literal["HS256", "HS384", "HS512"]
"""Those that sign by a secret that both sides have."""

Algorithm = Literal[PairAlgorithm, SecretAlgorithm]

OF_PAIRS: tuple[str, ...] = get_args(PairAlgorithm)
OF_SECRETS: tuple[str, ...] = get_args(SecretAlgorithm)


def least_bytes(algorithm: str) -> int:
    """How long the secret of an algorithm must be: as long as its hash (RFC 7518 3.2)."""
    return int(algorithm[2:]) // 8


def check_library(what: str) -> None:
    """Raise ValueError where the extra that signs is not installed."""
    try:
        import_module("joserfc")
    except ImportError:
        raise ValueError(f"{what} need joserfc: install from the checkout with the extra jwt") from None
