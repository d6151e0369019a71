"""Signed assertions for client authentication and as the grant (RFC 7523)."""

import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path
from ssl import PEM_cert_to_DER_cert
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sidekey.config.secrets import SecretReader
from sidekey.credentials.base import CallingCredential
from sidekey.credentials.fields import SecretUnreadable
from sidekey.credentials.oauth2 import assertion
from support import oauth
from support.drive_kinds import NOW, credential_of, first_call, settings_of
from support.keys import CURVES, private_key

AUTH: dict[str, Any] = {
    "type": "oauth2",
    "token_endpoint": "https://auth.example.com/oauth2/token?p=q",
    "client_id": "client-1",
}


def pem(
    key: Any, encryption: KeySerializationEncryption | None = None, form: PrivateFormat = PrivateFormat.PKCS8
) -> str:
    return str(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode())


def verify(token: str, algorithm: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of an assertion after verifying its signature."""
    public = private_key(algorithm).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    key = ECKey.import_key(public) if algorithm in CURVES else RSAKey.import_key(public)
    decoded = jwt.decode(token, key, algorithms=[algorithm])
    return decoded.header, decoded.claims


def signing(algorithm: str = "RS256", **more: Any) -> CallingCredential:
    settings = {"type": "private_key_jwt", "private_key": {"env": "KEY"}, "algorithm": algorithm, **more}
    auth = {**AUTH, "client_authentication": settings}
    return credential_of(auth, {"KEY": pem(private_key(algorithm))})


def sent(credential: CallingCredential) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(first_call(credential).body.decode()).items()}


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"])
def test_private_key_authenticates_the_client(algorithm: str) -> None:
    """RFC 7523 3: issuer and subject are the client, the audience is the token endpoint, the lifetime is short."""
    parameters = sent(signing(algorithm))
    assert parameters["client_id"] == "client-1"
    assert "client_secret" not in parameters
    header, claims = verify(parameters["client_assertion"], algorithm)
    assert header == {"typ": "JWT", "alg": algorithm}
    assert claims.pop("jti")
    assert claims == {
        "iss": "client-1",
        "sub": "client-1",
        "aud": "https://auth.example.com/oauth2/token",
        "iat": int(NOW),
        "exp": int(NOW) + assertion.LIFETIME,
    }
    assert 0 < assertion.LIFETIME <= 300


def test_every_assertion_has_its_own_identifier() -> None:
    """RFC 7523 3: a server may refuse one that it has seen."""
    credential = signing()
    identifiers = {verify(sent(credential)["client_assertion"], "RS256")[1]["jti"] for _ in range(5)}
    assert len(identifiers) == 5


def test_header_has_key_id_and_certificate_thumbprint() -> None:
    """RFC 7515 4.1.4 and 4.1.8. Microsoft Entra finds the key by its certificate."""
    signer = oauth.signer()
    digest = hashlib.sha256(PEM_cert_to_DER_cert(signer.certificate_pem.decode())).digest()
    credential = certified(signer.private_pem)
    header = jwt.decode(sent(credential)["client_assertion"], RSAKey.import_key(signer.public_jwk)).header
    assert header["kid"] == "key-7"
    assert header["x5t#S256"] == urlsafe_b64encode(digest).rstrip(b"=").decode()


def certified(private_pem: bytes, algorithm: str = "RS256") -> CallingCredential:
    """Build a client with the certificate of `oauth.signer`."""
    certificate = oauth.signer().certificate_pem.decode()
    settings = {
        "type": "private_key_jwt",
        "private_key": {"env": "KEY"},
        "algorithm": algorithm,
        "key_id": "key-7",
        "certificate": certificate,
    }
    auth = {**AUTH, "client_authentication": settings}
    return credential_of(auth, {"KEY": private_pem.decode()})


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_certificate_of_another_key_is_unusable(algorithm: str) -> None:
    """The server would only return invalid_client."""
    with pytest.raises(SecretUnreadable) as caught:
        certified(pem(private_key(algorithm)).encode(), algorithm)
    assert caught.value.reasons == (
        (
            ("auth", "client_authentication", "certificate"),
            "must be the certificate of private_key: it belongs to another key",
        ),
    )


def test_mismatched_key_and_certificate_are_both_read_again() -> None:
    """Files are rotated one after the other. Other values stay."""
    certificate = {"env": "CERTIFICATE"}
    settings = {"type": "private_key_jwt", "private_key": {"env": "KEY"}, "certificate": certificate}
    auth = settings_of({**AUTH, "client_authentication": settings})
    environ = {"KEY": pem(private_key("RS256")), "CERTIFICATE": oauth.signer().certificate_pem.decode()}
    values, reasons = auth.read(SecretReader(Path(), environ), {})
    assert set(values) == {("token_endpoint",), ("client_id",)}
    assert len(reasons) == 1
    environ["KEY"] = oauth.signer().private_pem.decode()
    values, reasons = auth.read(SecretReader(Path(), environ), values)
    assert (len(values), reasons) == (4, ())


def test_assertion_may_be_the_grant() -> None:
    """RFC 7523 2.1, as for Google service accounts: with configured claims, and without client authentication."""
    auth = {
        **AUTH,
        "grant": {
            "type": "jwt_bearer",
            "private_key": {"env": "KEY"},
            "audience": "https://login.example.com",
            "issuer": "issuer-1",
            "subject": "user@example.com",
            "claims": {"scope": "a b", "level": 5, "extra": {"env": "SECRET"}},
        },
    }
    parameters = sent(credential_of(auth, {"KEY": pem(private_key("RS256"))}))
    assert set(parameters) == {"grant_type", "assertion"}
    assert parameters["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    _, claims = verify(parameters["assertion"], "RS256")
    expected = {
        "iss": "issuer-1",
        "sub": "user@example.com",
        "aud": "https://login.example.com",
        "scope": "a b",
        "level": 5,
        "extra": "s3cret/+ &=%:~",
    }
    assert {name: claims[name] for name in expected} == expected


def test_assertion_grant_without_subject_has_the_client_as_issuer() -> None:
    auth = {**AUTH, "grant": {"type": "jwt_bearer", "private_key": {"env": "KEY"}}}
    _, claims = verify(sent(credential_of(auth, {"KEY": pem(private_key("RS256"))}))["assertion"], "RS256")
    assert claims["iss"] == "client-1"
    assert "sub" not in claims


def test_unusable_key_is_named_by_its_location() -> None:
    settings = {"type": "private_key_jwt", "private_key": {"env": "KEY"}, "certificate": {"env": "KEY"}}
    auth = {**AUTH, "client_authentication": settings}
    with pytest.raises(SecretUnreadable) as caught:
        credential_of(auth, {"KEY": pem(private_key("ES256"))})
    assert dict(caught.value.reasons) == {
        ("auth", "client_authentication", "private_key"): "must be an RSA key for RS256",
        ("auth", "client_authentication", "certificate"): "must be a certificate in PEM",
    }
