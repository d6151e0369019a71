"""Private keys that sign: which PEM is one."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from sidekey.credentials.private_key import PrivateKey, read_private_key


def pem(key: PrivateKey, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def test_a_key_of_any_type_is_read() -> None:
    key = Ed25519PrivateKey.generate()
    found = read_private_key(pem(key))
    assert isinstance(found, Ed25519PrivateKey)
    assert found.private_bytes_raw() == key.private_bytes_raw()


def test_what_is_no_key_that_signs_is_refused_by_what_must_be_true() -> None:
    """No reason repeats the key."""
    encrypted = pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"hunter2"))
    short = pem(generate_private_key(65537, 1024))
    public = Ed25519PrivateKey.generate().public_key()
    for text, reason in (
        (encrypted, "the private key must not be encrypted: write it without a passphrase"),
        (short, "an RSA key must have at least 2048 bits (RFC 7518 3.3)"),
        ("-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n", "must be a private key in PEM"),
        (repr(public), "must be a private key in PEM"),
    ):
        with pytest.raises(ValueError) as refused:
            read_private_key(text)
        assert str(refused.value) == reason


def test_numbers_that_do_not_make_a_key_are_refused_each_time() -> None:
    """Beside the key that they are made from, which was read before, and again afterwards."""
    key = generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    wrong = RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d,
        dmp1=numbers.dmp1,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp + 2,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    for _ in range(2):
        for _ in range(2):
            found = read_private_key(pem(key))
            assert isinstance(found, RSAPrivateKey)
            assert found.private_numbers() == numbers
        with pytest.raises(ValueError, match="must be a private key in PEM"):
            read_private_key(pem(wrong))
