"""Requests of a token endpoint's client: an encoded Basic header, and JWTs signed with a key of the test session."""

from __future__ import annotations

import time
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import RSAKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def basic(client_id: str, client_secret: str) -> str:
    """Build an Authorization header: both parts form-encoded before base64 (RFC 6749 2.3.1), a space as %20."""
    pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


class Signer:
    """A client's key pair, with a self-signed certificate for servers that identify the key by a certificate."""

    def __init__(self) -> None:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
        start = datetime.now(UTC) - timedelta(hours=1)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=2))
            .sign(private, SHA256())
        )
        self._key = RSAKey.import_key(private)
        self.private_pem = self._key.as_pem(private=True)
        """PKCS #8, for `private_key: {file: ...}`."""
        self.certificate_pem = self.certificate.public_bytes(Encoding.PEM)
        self.thumbprint = urlsafe_b64encode(self.certificate.fingerprint(SHA256())).decode().rstrip("=")
        """For the header parameter `x5t#S256`."""

    @property
    def public_jwk(self) -> dict[str, Any]:
        """The public key (RFC 7517), as a server registers it."""
        return dict(self._key.as_dict(private=False))

    def sign(self, claims: dict[str, Any], *, algorithm: str = "RS256", **header: str) -> str:
        """Sign a JWT of exactly these claims."""
        return jwt.encode({"alg": algorithm, "typ": "JWT"} | header, claims, self._key, algorithms=[algorithm])

    def assertion(self, issuer: str, audience: str, **claims: Any) -> str:
        """Build a JWT as in RFC 7523 3, valid for a minute. `claims` replaces or adds claims, None removes one."""
        now = int(time.time())
        usual = {"iss": issuer, "sub": issuer, "aud": audience, "jti": uuid4().hex, "iat": now, "exp": now + 60}
        return self.sign({name: value for name, value in (usual | claims).items() if value is not None})


@cache
def signer() -> Signer:
    """Return one for the process, because generating a key takes a while."""
    return Signer()


@cache
def stranger() -> Signer:
    """Return another key, which no server knows."""
    return Signer()
