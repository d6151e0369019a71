"""Private keys: opens them, and says which are too weak or unusable for TLS."""

from __future__ import annotations

from math import prod

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.dsa import DSAPrivateKey, DSAPublicKey
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from sidekey.credentials.certificates.encoding import Block, items

LEAST_RSA_BITS = 2048
LEAST_CURVE_BITS = 256
MAX_ROUNDS = 2_000_000
"""Rounds by which a passphrase may become a key. The library holds the interpreter meanwhile, so that no request is
served: those are some 300 ms, and a key can ask for hours."""

_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
"""1.3.6.1.4.1.11591.4.11 (RFC 7914 7)."""
_SEQUENCE, _INTEGER, _DEEPEST = 0x30, 0x02, 8

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey | DSAPrivateKey
_PRIVATE = (RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey, Ed448PrivateKey, DSAPrivateKey)


class PassphraseError(ValueError):
    """What is wrong lies with the passphrase that was given, not with the key."""


def open_key(block: Block, passphrase: str | None) -> PrivateKey:
    """The key of a PEM block. Raises ValueError with the reason, PassphraseError where the passphrase is wrong.

    An RSA key's numbers are not proven prime, which takes 36 ms a key: the handshake would fail with a wrong one.
    """
    encrypted = bool(block.encrypted) or block.label == _ENCRYPTED
    if encrypted and passphrase is None:
        raise ValueError("this private key is encrypted: write its passphrase as key_passphrase")
    if not encrypted and passphrase is not None:
        raise PassphraseError("the private key is not encrypted: remove this key")
    password = None if passphrase is None else passphrase.encode()
    if block.label == _ENCRYPTED and _rounds(block.der) > MAX_ROUNDS:
        way_out = "encrypt it again with openssl pkcs8 -topk8"
        raise ValueError(f"this private key must be encrypted with at most {MAX_ROUNDS} rounds: {way_out}")
    try:
        if block.encrypted:
            key = load_pem_private_key(block.encrypted, password, unsafe_skip_rsa_key_validation=True)
        else:
            key = load_der_private_key(block.der, password, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        way = "encrypted in a way" if encrypted else "of a type"
        way_out = "convert it with openssl pkcs8 -topk8"
        raise ValueError(f"this private key is {way} that is not supported: {way_out}") from None
    except (TypeError, ValueError):
        if encrypted:
            # The library does not always distinguish an unknown encryption from a wrong passphrase.
            way_out = "if it is correct, encrypt the key again with openssl pkcs8 -topk8"
            raise PassphraseError(f"this passphrase does not decrypt the private key; {way_out}") from None
        raise ValueError("this private key is damaged") from None
    if not isinstance(key, _PRIVATE):
        raise ValueError("this private key cannot sign, so TLS cannot use it")  # noqa: TRY004 - a reason, as the others
    return key


def _rounds(der: bytes) -> int:
    """How many rounds an encrypted key asks for (RFC 5958 3, RFC 8018 A). Raises ValueError where it is damaged."""
    try:
        ((_, _, key),) = items(der)
        (_, level, _), *_ = items(key)
        numbers: list[int] = []
        is_scrypt = False
        for _ in range(_DEEPEST):
            inner = [*items(level)]
            is_scrypt = is_scrypt or any(whole == _SCRYPT for _, whole, _ in inner)
            numbers += [int.from_bytes(content, "big") for tag, _, content in inner if tag == _INTEGER]
            level = b"".join(content for tag, _, content in inner if tag == _SEQUENCE)
    except ValueError:
        level = b"cut"
    if level:
        raise ValueError("this private key is damaged")
    # Of scrypt they are multiplied (N, r, p); elsewhere one counts rounds, and what is beside it is less.
    return prod(numbers[:3]) if is_scrypt else max(numbers, default=0)


def weakness(key: object) -> str | None:
    """Why a public key is too weak or unusable for TLS, in words that follow "its key is"; None: it is usable."""
    if isinstance(key, RSAPublicKey):
        few = f"RSA with {key.key_size} bits: at least {LEAST_RSA_BITS} are needed"
        return few if key.key_size < LEAST_RSA_BITS else None
    if isinstance(key, EllipticCurvePublicKey):
        few = f"on the curve {key.curve.name}: at least P-256 is needed"
        return few if key.curve.key_size < LEAST_CURVE_BITS else None
    if isinstance(key, DSAPublicKey):
        return "DSA, which is no longer used in TLS (RFC 8446): RSA, ECDSA or Ed25519 is needed"
    return None if isinstance(key, (Ed25519PublicKey, Ed448PublicKey)) else "of a type that TLS cannot use"


def written(key: PrivateKey) -> bytes:
    """The key as PEM without a passphrase (PKCS#8). Raises ValueError where its numbers do not make a key."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
