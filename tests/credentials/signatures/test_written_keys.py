"""Encodings of shared secrets and of the keys of Standard Webhooks."""

from __future__ import annotations

import hashlib
import hmac
import pickle
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidekey.credentials.key_formats import SecretEncoding
from sidekey.credentials.signatures.keys import Ed25519, hmac_key, webhook_key

SEED = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key()


def whsec(key: bytes) -> str:
    return f"whsec_{b64encode(key).decode()}"


@pytest.mark.parametrize(
    ("secret", "encoding", "key"),
    [
        ("whsec_Müller", "text", "whsec_Müller".encode()),
        ("00fFa1", "hex", b"\x00\xff\xa1"),
        ("+/8=", "base64", b"\xfb\xff"),
        ("+/8", "base64", b"\xfb\xff"),
    ],
)
def test_secret_is_decoded_from_text_hex_or_base64(secret: str, encoding: SecretEncoding, key: bytes) -> None:
    """Text is the key itself. Padding is optional."""
    found = hmac_key(secret, encoding, "hmac-sha512")
    assert found.sign([b"a", b"b"]) == hmac.digest(key, b"ab", "sha512")


@pytest.mark.parametrize(("secret", "encoding"), [("hunter2", "hex"), ("hunter2!", "base64"), ("=", "base64")])
def test_secret_in_another_encoding_is_refused(secret: str, encoding: SecretEncoding) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        hmac_key(secret, encoding, "hmac-sha256")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_webhook_key_has_24_to_64_bytes(size: int) -> None:
    key = hashlib.sha512(b"key").digest()[:size]
    for secret in (whsec(key), whsec(key).rstrip("=")):
        assert webhook_key(secret).sign([b"a", b"b"]) == hmac.digest(key, b"ab", "sha256")


@pytest.mark.parametrize("secret", [SEED, SEED + PUBLIC.public_bytes_raw()], ids=["alone", "pair"])
def test_ed25519_key_may_be_followed_by_its_public_key(secret: bytes) -> None:
    """As Svix encodes it."""
    key = webhook_key(f"whsk_{b64encode(secret).decode()}")
    assert isinstance(key, Ed25519)
    PUBLIC.verify(key.sign([b"a", b"b"]), b"ab")


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (whsec(b"x" * 23), "24 to 64 bytes"),
        (whsec(b"x" * 65), "24 to 64 bytes"),
        ("whsec_", "24 to 64 bytes"),
        ("whsec_not base64", "base64 behind whsec_"),
        (f"whpk_{b64encode(SEED).decode()}", "begin with whsec_"),
        ("_hunter2", "begin with whsec_"),
        ("whsk_", "32 bytes, or 64"),
        ("whsk_%%", "base64 behind whsk_"),
        (f"whsk_{b64encode(b'x' * 33).decode()}", "32 bytes, or 64"),
        (f"whsk_{b64encode(SEED * 2).decode()}", "public key that goes with"),
    ],
)
def test_invalid_webhook_key_is_refused(secret: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        webhook_key(secret)
    assert secret.partition("_")[2] not in str(caught.value) or secret in ("whsec_", "whsk_")


@pytest.mark.parametrize("secret", [whsec(b"k" * 32), f"whsk_{b64encode(SEED).decode()}"])
def test_key_is_redacted_and_not_pickled(secret: str) -> None:
    key = webhook_key(secret)
    assert repr(key) == str(key) == f"{type(key).__name__}(REDACTED)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)
