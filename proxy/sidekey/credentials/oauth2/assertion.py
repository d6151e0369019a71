"""Signed assertions (RFC 7523): they authenticate a client by its private key, or are the grant.

Imported only where the config asks for one: joserfc is an extra.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sidekey.credentials.base import Sealed
from sidekey.credentials.oauth2.parameters import Parameters

LIFE = 120
"""Seconds an assertion is good for: well under the five minutes that servers accept, whose clock may differ."""

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
"""RFC 7518 3.4: each of these algorithms has one curve; the others take RSA keys."""

_LEAST_BITS = 2048
"""RFC 7518 3.3 and 3.5."""


def load_key(pem: str, algorithm: str) -> RSAKey | ECKey:
    """The private key in `pem`. Raises ValueError where it is none, or none for the algorithm."""
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("the private key must not be encrypted: write it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a private key in PEM") from None
    curve = _CURVES.get(algorithm)
    if curve is not None:
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != curve:
            raise ValueError(f"must be a key on the curve {curve} for {algorithm}")
        return ECKey.import_key(key)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"must be an RSA key for {algorithm}")  # noqa: TRY004 - a reason to show, as the others
    if key.key_size < _LEAST_BITS:
        raise ValueError(f"an RSA key must have at least {_LEAST_BITS} bits (RFC 7518 3.3)")
    return RSAKey.import_key(key)


def thumbprint(pem: str) -> str:
    """The `x5t#S256` of a certificate (RFC 7515 4.1.8); the first, where there are more. Raises ValueError."""
    try:
        certificate = load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise ValueError("must be a certificate in PEM") from None
    return urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode("ascii")


def check_certificate(pem: str) -> None:
    """Refuse what has no thumbprint."""
    thumbprint(pem)


def check_pair(certificate: str, private_key: str) -> None:
    """Refuse a certificate of another key: the server would look for the signature of that one.

    Both have passed their own checks.
    """
    try:
        public = load_pem_x509_certificate(certificate.encode()).public_key()
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if public != load_pem_private_key(private_key.encode(), None).public_key():
        raise ValueError("must be the certificate of private_key: it belongs to another key")


@dataclass(frozen=True, slots=True, repr=False)
class Assertion(Sealed):
    """What is signed each time: the key, and the claims that stay the same. An empty `subject` is left out."""

    key: RSAKey | ECKey
    algorithm: str
    issuer: str
    subject: str
    audience: str
    key_id: str = ""
    thumbprint: str = ""
    claims: Parameters = ()

    def __repr__(self) -> str:
        return f"Assertion({self.algorithm}, REDACTED)"

    def sign(self, now: float) -> str:
        """A new assertion as a compact JWS; `now` is in seconds since the epoch."""
        header: dict[str, Any] = {"alg": self.algorithm}
        if self.key_id:
            header["kid"] = self.key_id
        if self.thumbprint:
            header["x5t#S256"] = self.thumbprint
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "iat": int(now),
            "exp": int(now) + LIFE,
            # RFC 7523 3: a server may refuse one it saw before.
            "jti": secrets.token_urlsafe(16),
            **dict(self.claims),
        }
        if self.subject:
            claims["sub"] = self.subject
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
