"""What the tests' own OAuth client sends is what the RFCs show."""

from __future__ import annotations

from base64 import b64decode

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jwt
from joserfc.jwk import RSAKey

from support import oauth


def test_basic_is_form_encoded_before_base64() -> None:
    """RFC 6749 2.3.1 and its appendix B, in the spelling of a space that every server reads."""
    assert b64decode(oauth.basic("a b", "%:+").removeprefix("Basic ")) == b"a%20b:%25%3A%2B"


def test_an_assertion_is_verified_by_the_public_key() -> None:
    """RFC 7523 3: all claims it asks for; those given replace them, None takes one away."""
    signer = oauth.signer()
    text = signer.assertion("me", "https://auth.example.com", sub=None, scope="a")
    token = jwt.decode(text, RSAKey.import_key(signer.public_jwk))
    assert token.claims.keys() == {"iss", "aud", "jti", "iat", "exp", "scope"}
    assert (token.claims["iss"], token.claims["aud"]) == ("me", "https://auth.example.com")
    assert "d" not in signer.public_jwk


def test_the_files_hold_one_key_pair() -> None:
    """Key and certificate belong together."""
    signer = oauth.signer()
    key = load_pem_private_key(signer.private_pem, None)
    assert isinstance(key, RSAPrivateKey)
    assert key.public_key() == load_pem_x509_certificate(signer.certificate_pem).public_key()
    assert signer is oauth.signer()
    assert signer.public_jwk != oauth.stranger().public_jwk
