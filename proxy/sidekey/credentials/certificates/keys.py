"""Open private keys, and reject those that are too weak or unusable for TLS."""

from __future__ import annotations

from math import prod

from cryptography.exceptions import UnsupportedAlgorithm
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

from sidekey.credentials.certificates.pem_der import PemBlock, read_der

MIN_RSA_BITS = 2048
MIN_CURVE_BITS = 256
MAX_ROUNDS = 2_000_000
"""Rounds of key derivation from a passphrase, about 300 ms. A key may demand hours, and the library holds the
interpreter lock meanwhile, so Sidekey could serve no request."""

_DAMAGED = "this private key is damaged"
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
"""1.3.6.1.4.1.11591.4.11 (RFC 7914 7)."""
_SEQUENCE, _INTEGER = 0x30, 0x02
_MAX_DEPTH = 8

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Ed448PrivateKey
_KEY_TYPES = (RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey, Ed448PrivateKey)


class PassphraseError(ValueError):
    """The passphrase is wrong or not needed."""


def open_key(block: PemBlock, passphrase: str | None) -> PrivateKey:
    """Parse the key of a PEM block. Raises ValueError with the reason, or PassphraseError.

    Do not prove that the numbers of an RSA key are prime, which takes 36 ms: a handshake with a wrong key fails anyway.
    """
    encrypted = bool(block.encrypted) or block.label == _ENCRYPTED
    if encrypted and passphrase is None:
        raise ValueError("this private key is encrypted: write its passphrase as key_passphrase")
    if not encrypted and passphrase is not None:
        raise PassphraseError("the private key is not encrypted: remove this key")
    password = None if passphrase is None else passphrase.encode()
    if block.label == _ENCRYPTED and _count_rounds(block.der) > MAX_ROUNDS:
        remedy = "encrypt it again with openssl pkcs8 -topk8"
        raise ValueError(f"this private key must be encrypted with at most {MAX_ROUNDS} rounds: {remedy}")
    try:
        if block.encrypted:
            key = load_pem_private_key(block.encrypted, password, unsafe_skip_rsa_key_validation=True)
        else:
            key = load_der_private_key(block.der, password, unsafe_skip_rsa_key_validation=True)
    except UnsupportedAlgorithm:
        feature = "encrypted in a way" if encrypted else "of a type"
        remedy = "convert it with openssl pkcs8 -topk8"
        raise ValueError(f"this private key is {feature} that is not supported: {remedy}") from None
    except (TypeError, ValueError):
        if encrypted:
            # The library does not always distinguish an unknown encryption from a wrong passphrase.
            remedy = "if it is correct, encrypt the key again with openssl pkcs8 -topk8"
            raise PassphraseError(f"this passphrase does not decrypt the private key; {remedy}") from None
        raise ValueError(_DAMAGED) from None
    if not isinstance(key, _KEY_TYPES):
        raise ValueError("this private key is of a type that TLS cannot use: RSA, ECDSA or Ed25519 is needed")  # noqa: TRY004 - a reason, as the others
    return key


def _count_rounds(der: bytes) -> int:
    """Return the rounds that an encrypted key demands (RFC 5958 3, RFC 8018 A). Raises ValueError for damaged data."""
    try:
        ((_, _, key),) = read_der(der)
        (_, level, _), *_ = read_der(key)
        numbers: list[int] = []
        is_scrypt = False
        # Collect the integers of the algorithm's parameters, one level of nested sequences after another.
        for _ in range(_MAX_DEPTH):
            inner = [*read_der(level)]
            is_scrypt = is_scrypt or any(encoded == _SCRYPT for _, encoded, _ in inner)
            numbers += [int.from_bytes(content, "big") for tag, _, content in inner if tag == _INTEGER]
            level = b"".join(content for tag, _, content in inner if tag == _SEQUENCE)
    except ValueError:
        raise ValueError(_DAMAGED) from None
    if level:
        raise ValueError(_DAMAGED)
    # The cost of scrypt is the product of N, r and p. Other functions have one count, which is the largest number.
    return prod(numbers[:3]) if is_scrypt else max(numbers, default=0)


def find_weakness(key: object) -> str | None:
    """Return words that follow "its key is" for a public key that is too weak or unusable for TLS, else None."""
    if isinstance(key, RSAPublicKey):
        problem = f"RSA with {key.key_size} bits: at least {MIN_RSA_BITS} are needed"
        return problem if key.key_size < MIN_RSA_BITS else None
    if isinstance(key, EllipticCurvePublicKey):
        problem = f"on the curve {key.curve.name}: at least P-256 is needed"
        return problem if key.curve.key_size < MIN_CURVE_BITS else None
    usable = isinstance(key, (Ed25519PublicKey, Ed448PublicKey))
    return None if usable else "of a type that TLS cannot use: RSA, ECDSA or Ed25519 is needed"


def to_pem(key: PrivateKey) -> bytes:
    """Serialize a key to PEM without a passphrase (PKCS#8). Raises ValueError if its numbers are inconsistent."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
