"""Encodings of secrets, and private keys in PEM."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    generate_private_key,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.key_formats import PrivateKey, SecretEncoding, decode_secret, read_private_key
from support import oauth


@given(key=st.binary(min_size=1, max_size=70))
def test_every_spelling_of_an_encoded_secret_is_decoded(key: bytes) -> None:
    """Hex in either case; base64 in both alphabets, with or without padding."""
    assert decode_secret(key.hex(), "hex") == decode_secret(key.hex().upper(), "hex") == key
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(key).decode()
        assert decode_secret(text, "base64") == decode_secret(text.rstrip("="), "base64") == key


def test_text_is_encoded_as_utf_8() -> None:
    """Text that looks like hex is not decoded."""
    assert decode_secret("00ff\u00fc", "text") == b"00ff\xc3\xbc"


NO_KEYS: dict[SecretEncoding, tuple[str, ...]] = {
    "hex": ("abc", "0x0a", "aa bb", "gg", "", "\u0663\u0663"),
    "base64": ("a", "YQ==YQ==", "YW Jj", "Y\u00fc==", "YWJj!"),
}


@pytest.mark.parametrize("encoding", NO_KEYS)
def test_invalid_encoding_is_an_error_that_repeats_nothing(encoding: SecretEncoding) -> None:
    for text in NO_KEYS[encoding]:
        with pytest.raises(ValueError, match=rf"^must be {encoding}, as secret_encoding says") as caught:
            decode_secret(text, encoding)
        assert len(text) < 4 or text not in str(caught.value)


def pem(key: PrivateKey, encryption: KeySerializationEncryption | None = None) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


def test_private_key_of_any_type_is_loaded() -> None:
    key = Ed25519PrivateKey.generate()
    result = read_private_key(pem(key))
    assert isinstance(result, Ed25519PrivateKey)
    assert result.private_bytes_raw() == key.private_bytes_raw()


def test_unusable_private_key_is_refused_with_the_rule() -> None:
    """No reason repeats the key."""
    encrypted = pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"hunter2"))
    short, long = (pem(generate_private_key(65537, bits)) for bits in (1024, 4104))
    public = Ed25519PrivateKey.generate().public_key()
    for text, reason in (
        (encrypted, "the private key must not be encrypted: write it without a passphrase"),
        (short, "an RSA key must have 2048 to 4096 bits"),
        (long, "an RSA key must have 2048 to 4096 bits"),
        ("-----BEGIN PRIVATE KEY-----\nMAo=\n-----END PRIVATE KEY-----\n", "must be a private key in PEM"),
        (repr(public), "must be a private key in PEM"),
        (f"{encrypted}\ud800", "must be a private key in PEM"),
    ):
        with pytest.raises(ValueError) as refused:
            read_private_key(text)
        assert str(refused.value) == reason


def test_rsa_key_is_proven_prime_once() -> None:
    text = oauth.signer().private_pem.decode()
    for _ in range(3):
        result = read_private_key(text)
        assert isinstance(result, RSAPrivateKey)
        assert pem(result) == text


def test_rsa_key_with_a_composite_factor_is_refused_every_time() -> None:
    """Its signatures could reveal the key."""
    e, p, q = 65537, 3 * (2**1026 + 1), 2**1024 + 643
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = RSAPrivateNumbers(
        p, q, d, rsa_crt_dmp1(d, p), rsa_crt_dmq1(d, q), rsa_crt_iqmp(p, q), RSAPublicNumbers(e, p * q)
    )
    text = pem(numbers.private_key(unsafe_skip_rsa_key_validation=True))
    read_private_key(oauth.signer().private_pem.decode())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^must be a private key in PEM$"):
            read_private_key(text)
