"""Keys for JSON Web Tokens, and the signing of tokens (RFC 7515, RFC 7519).

The import of this module fails without joserfc, which the extra `jwt` installs.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sidekey.credentials.jws_algorithms import min_secret_size
from sidekey.credentials.key_formats import SecretEncoding, decode_secret, read_private_key
from sidekey.credentials.secret_holder import SecretHolder

Key: TypeAlias = RSAKey | ECKey | OKPKey | OctKey

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
"""The curve of each algorithm (RFC 7518 3.4)."""


def load_key(pem: str, algorithm: str) -> Key:
    """Load a private key from PEM. Raises ValueError if it is invalid or does not fit the algorithm."""
    key = read_private_key(pem)
    curve = _CURVES.get(algorithm)
    if curve is not None:
        if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name != curve:
            raise ValueError(f"must be a key on the curve {curve} for {algorithm}")
        return ECKey.import_key(key)
    if algorithm in ("EdDSA", "Ed25519"):
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"must be an Ed25519 key for {algorithm}")
        return OKPKey.import_key(key)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(f"must be an RSA key for {algorithm}")  # noqa: TRY004 - as above
    return RSAKey.import_key(key)


def load_secret(text: str, encoding: SecretEncoding, algorithm: str) -> Key:
    """Load a secret as a key. Raises ValueError if it is invalid or too short for the algorithm."""
    key, min_size = decode_secret(text, encoding), min_secret_size(algorithm)
    if len(key) < min_size:
        raise ValueError(
            f"must have at least {min_size} bytes for {algorithm} (RFC 7518 3.2): a shorter one can be guessed from a "
            "token; have a longer one issued"
        )
    return OctKey.import_key(key)


def public_key_sha256(pem: str) -> str:
    """Return the base64 of the SHA-256 of the public key's DER (SubjectPublicKeyInfo). `pem` must be a valid key."""
    public = read_private_key(pem).public_key()
    return b64encode(sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()


def thumbprint(pem: str) -> str:
    """Return the `x5t#S256` of the first certificate in `pem` (RFC 7515 4.1.8). Raises ValueError."""
    try:
        certificate = load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise ValueError("must be a certificate in PEM") from None
    return urlsafe_b64encode(certificate.fingerprint(SHA256())).rstrip(b"=").decode("ascii")


def check_certificate(pem: str) -> None:
    """Raise ValueError for an invalid certificate."""
    thumbprint(pem)


def check_pair(certificate: str, private_key: str) -> None:
    """Raise ValueError if the certificate belongs to another key: the server would verify with that key.

    The caller has checked each argument by itself.
    """
    try:
        public = load_pem_x509_certificate(certificate.encode()).public_key()
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if public != read_private_key(private_key).public_key():
        raise ValueError("must be the certificate of private_key: it belongs to another key")


class _Registry(JWSRegistry):
    """A registry without joserfc's warning about EdDSA, the only name for Ed25519 that some servers know."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


_REGISTRY = _Registry()


@dataclass(frozen=True, slots=True, repr=False)
class TokenSigner(SecretHolder):
    """Signs claims as a compact JWS. Its header omits empty attributes."""

    key: Key
    algorithm: str
    key_id: str = ""
    thumbprint: str = ""

    def __repr__(self) -> str:
        return f"TokenSigner({self.algorithm}, REDACTED)"

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Sign a token with these claims."""
        header: dict[str, Any] = {"alg": self.algorithm}
        if self.key_id:
            header["kid"] = self.key_id
        if self.thumbprint:
            header["x5t#S256"] = self.thumbprint
        return jwt.encode(header, dict(claims), self.key, registry=_REGISTRY)
