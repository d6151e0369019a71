"""Keys of each algorithm, and the tokens that they sign."""

import hashlib
from base64 import b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sidekey.credentials import jose
from sidekey.credentials.jws_algorithms import KEY_PAIR_ALGORITHMS, SECRET_ALGORITHMS
from sidekey.credentials.key_formats import SecretEncoding
from support.keys import private_key


def pem(
    key: Any, encryption: KeySerializationEncryption | None = None, form: PrivateFormat = PrivateFormat.PKCS8
) -> str:
    return str(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode())


@pytest.mark.parametrize(
    ("algorithm", "key", "reason"),
    [
        ("RS256", "ES256", "RS256"),
        ("PS256", "EdDSA", "PS256"),
        ("RS256", "small", "2048 to 4096 bits"),
        ("ES256", "ES384", "on the curve secp256r1 for ES256"),
        ("ES384", "RS256", "on the curve secp384r1 for ES384"),
        ("EdDSA", "ES256", "an Ed25519 key for EdDSA"),
        ("Ed25519", "Ed448", "an Ed25519 key for Ed25519"),
    ],
)
def test_key_of_another_type_is_refused_when_it_is_loaded(algorithm: str, key: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        jose.load_key(pem(private_key(key)), algorithm)


def test_encrypted_or_invalid_key_is_refused_without_repeating_it() -> None:
    encrypted = pem(private_key("RS256"), BestAvailableEncryption(b"hunter2"))
    with pytest.raises(ValueError, match="must not be encrypted"):
        jose.load_key(encrypted, "RS256")
    with pytest.raises(ValueError, match=r"^must be a private key in PEM$"):
        jose.load_key("-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n", "RS256")
    with pytest.raises(ValueError, match=r"^must be a certificate in PEM$"):
        jose.check_certificate(pem(private_key("RS256")))


def test_pkcs_1_and_sec_1_keys_are_loaded() -> None:
    for algorithm in ("RS256", "ES256"):
        older = pem(private_key(algorithm), form=PrivateFormat.TraditionalOpenSSL)
        assert "PRIVATE KEY" in older
        assert "BEGIN PRIVATE KEY" not in older
        assert jose.load_key(older, algorithm) is not None


@pytest.mark.parametrize(
    ("text", "encoding", "algorithm"),
    [
        ("a" * 31, "text", "HS256"),
        ("a" * 47, "text", "HS384"),
        ("a" * 63, "text", "HS512"),
        ("ab" * 31, "hex", "HS256"),
        ("YWJj" * 10, "base64", "HS256"),
    ],
)
def test_short_secret_is_refused(text: str, encoding: SecretEncoding, algorithm: str) -> None:
    """RFC 7518 3.2. The error repeats neither the secret nor its length."""
    with pytest.raises(ValueError, match=rf"at least [0-9]+ bytes for {algorithm} \(RFC 7518 3\.2\)") as caught:
        jose.load_secret(text, encoding, algorithm)
    assert text not in str(caught.value)


def test_secret_signs_with_its_decoded_bytes() -> None:
    """A text that is not ASCII is UTF-8."""
    key = bytes(range(200, 248))
    spelled: dict[SecretEncoding, str] = {"hex": key.hex(), "base64": b64encode(key).decode()}
    for encoding, text in spelled.items():
        token = jose.TokenSigner(jose.load_secret(text, encoding, "HS384"), "HS384").sign({"a": 1})
        assert jwt.decode(token, key, algorithms=["HS384"]) == {"a": 1}
    token = jose.TokenSigner(jose.load_secret("\u00fc" * 16, "text", "HS256"), "HS256").sign({"a": 1})
    assert jwt.decode(token, ("\u00fc" * 16).encode(), algorithms=["HS256"]) == {"a": 1}


@pytest.mark.parametrize(
    "algorithm", [name for name in (*KEY_PAIR_ALGORITHMS, *SECRET_ALGORITHMS) if name != "Ed25519"]
)
def test_another_library_verifies_the_token(algorithm: str) -> None:
    """The header omits empty attributes, and EdDSA causes no warning."""
    key = "s" * 64 if algorithm in SECRET_ALGORITHMS else private_key(algorithm).public_key()
    loaded = (
        jose.load_secret("s" * 64, "text", algorithm)
        if algorithm in SECRET_ALGORITHMS
        else jose.load_key(pem(private_key(algorithm)), algorithm)
    )
    token = jose.TokenSigner(loaded, algorithm, "k", "t").sign({"a": ["\u00fc", 1, {"b": True}]})
    assert jwt.decode(token, key, algorithms=[algorithm]) == {"a": ["\u00fc", 1, {"b": True}]}
    assert jwt.get_unverified_header(token) == {"typ": "JWT", "alg": algorithm, "kid": "k", "x5t#S256": "t"}
    bare = jose.TokenSigner(loaded, algorithm).sign({})
    assert jwt.get_unverified_header(bare) == {"typ": "JWT", "alg": algorithm}


def test_eddsa_and_ed25519_use_the_same_key() -> None:
    """RFC 8037 and RFC 9864."""
    key = pem(private_key("EdDSA"))
    for algorithm in ("EdDSA", "Ed25519"):
        token = jose.TokenSigner(jose.load_key(key, algorithm), algorithm).sign({})
        message, _, signature = token.rpartition(".")
        private_key("EdDSA").public_key().verify(jwt.utils.base64url_decode(signature), message.encode())


def test_fingerprint_of_a_public_key_matches_openssl() -> None:
    """`openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64`"""
    public = private_key("RS256").public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert jose.public_key_sha256(pem(private_key("RS256"))) == b64encode(hashlib.sha256(der).digest()).decode()
