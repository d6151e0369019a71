"""Keys of signatures: HMAC secrets, private keys, and keys of Standard Webhooks."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode, urlsafe_b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sidekey.credentials.key_formats import SecretEncoding
from sidekey.credentials.signatures.keys import Ed25519, Hmac, HmacAlgorithm, load_hmac_key, load_key, load_webhook_key
from support.outgoing_requests import private_key

HASHES: dict[HmacAlgorithm, str] = {
    "hmac-sha1": "sha1",
    "hmac-sha256": "sha256",
    "hmac-sha384": "sha384",
    "hmac-sha512": "sha512",
}


@given(
    key=st.binary(max_size=300),
    body=st.lists(st.binary(max_size=200), max_size=5),
    algorithm=st.sampled_from(sorted(HASHES)),
)
def test_hmac_equals_the_standard_library(key: bytes, body: list[bytes], algorithm: HmacAlgorithm) -> None:
    """For keys shorter and longer than a block, any pieces, and the second use of a key."""
    signer = Hmac(key, algorithm)
    expected = hmac.digest(key, b"".join(body), HASHES[algorithm])
    assert signer.sign(body) == signer.sign(body) == expected


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("algorithm", HASHES)
def test_hmac_with_keys_of_about_a_block(size: int, algorithm: HmacAlgorithm) -> None:
    """RFC 2104 2: longer keys are hashed first."""
    key = bytes(range(size))
    assert Hmac(key, algorithm).sign([b"x"]) == hmac.new(key, b"x", HASHES[algorithm]).digest()


ALGORITHMS = ("ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512")


def pem_of(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_thumbprint_of_the_rfc() -> None:
    """RFC 8037 A.3."""
    seed = urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    pem = pem_of(ed25519.Ed25519PrivateKey.from_private_bytes(seed))
    assert load_key(pem, "ed25519")[1] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("algorithm", "library"), [("ed25519", OKPKey), ("ecdsa-p256-sha256", ECKey), ("rsa-pss-sha512", RSAKey)]
)
def test_thumbprint_equals_joserfc(algorithm: str, library: type[OKPKey | ECKey | RSAKey]) -> None:
    """RFC 7638."""
    pem, _ = private_key(algorithm)
    assert load_key(pem, algorithm)[1] == library.import_key(pem).thumbprint()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_of_another_algorithm_is_refused(algorithm: str) -> None:
    others = [private_key(other)[0] for other in ALGORITHMS if other != algorithm]
    for pem in (*others, pem_of(ec.generate_private_key(ec.SECP384R1()))):
        with pytest.raises(ValueError, match=r"^must be .* as algorithm says$") as caught:
            load_key(pem, algorithm)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_invalid_private_key_is_refused(algorithm: str) -> None:
    """Without the library's message or the key."""
    pem, public = private_key(algorithm)
    for text in ("-----BEGIN PRIVATE KEY-----\naGk=\n-----END PRIVATE KEY-----\n", public.decode()):
        with pytest.raises(ValueError, match=r"^must be a private key in PEM$"):
            load_key(text, algorithm)
    key = ed25519.Ed25519PrivateKey.generate()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")).decode()
    with pytest.raises(ValueError, match="must not be encrypted"):
        load_key(locked, algorithm)
    assert load_key(pem, algorithm)


def test_short_rsa_key_is_refused() -> None:
    with pytest.raises(ValueError, match="2048 to 4096 bits"):
        load_key(pem_of(rsa.generate_private_key(65537, 1024)), "rsa-pss-sha512")


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
    result = load_hmac_key(secret, encoding, "hmac-sha512")
    assert result.sign([b"a", b"b"]) == hmac.digest(key, b"ab", "sha512")


@pytest.mark.parametrize(("secret", "encoding"), [("hunter2", "hex"), ("hunter2!", "base64"), ("=", "base64")])
def test_secret_in_another_encoding_is_refused(secret: str, encoding: SecretEncoding) -> None:
    with pytest.raises(ValueError, match=r"^must ") as caught:
        load_hmac_key(secret, encoding, "hmac-sha256")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_webhook_key_has_24_to_64_bytes(size: int) -> None:
    key = hashlib.sha512(b"key").digest()[:size]
    for secret in (whsec(key), whsec(key).rstrip("=")):
        assert load_webhook_key(secret).sign([b"a", b"b"]) == hmac.digest(key, b"ab", "sha256")


@pytest.mark.parametrize("secret", [SEED, SEED + PUBLIC.public_bytes_raw()], ids=["alone", "pair"])
def test_ed25519_key_may_be_followed_by_its_public_key(secret: bytes) -> None:
    """Svix encodes keys in this form."""
    key = load_webhook_key(f"whsk_{b64encode(secret).decode()}")
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
        load_webhook_key(secret)
    assert secret.partition("_")[2] not in str(caught.value) or secret in ("whsec_", "whsk_")
