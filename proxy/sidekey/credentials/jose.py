"""Keys, and JSON Web Tokens that are signed by them (RFC 7515, RFC 7519).

Importing this module fails without joserfc, which is an extra.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Any, Literal, TypeAlias, get_args

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

from sidekey.credentials.key_formats import SecretEncoding, decoded, read_private_key
from sidekey.credentials.secret_holder import SecretHolder

PairAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
"""Those that sign by a private key."""

SecretAlgorithm = Literal["HS256", "HS384", "HS512"]
"""Those that sign by a secret that both sides have."""

Algorithm = Literal[PairAlgorithm, SecretAlgorithm]

OF_PAIRS: tuple[str, ...] = get_args(PairAlgorithm)
OF_SECRETS: tuple[str, ...] = get_args(SecretAlgorithm)


def least_bytes(algorithm: str) -> int:
    """How long the secret of an algorithm must be: as long as its hash (RFC 7518 3.2)."""
    return int(algorithm[2:]) // 8


def check_library(what: str) -> None:
    """Raise ValueError where the extra that signs is not installed."""
    try:
        import_module("joserfc")
    except ImportError:
        raise ValueError(f"{what} need joserfc: install from the checkout with the extra jwt") from None


Key: TypeAlias = RSAKey | ECKey | OKPKey | OctKey

_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
"""RFC 7518 3.4: each of these algorithms has one curve."""


def load_key(pem: str, algorithm: str) -> Key:
    """The private key in `pem`. Raises ValueError where it is none, or none for the algorithm."""
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
    """The key that a secret is. Raises ValueError where it is none, or too short for the algorithm."""
    key, least = decoded(text, encoding), least_bytes(algorithm)
    if len(key) < least:
        raise ValueError(
            f"must have at least {least} bytes for {algorithm} (RFC 7518 3.2): a shorter one can be guessed from a "
            "token; have a longer one issued"
        )
    return OctKey.import_key(key)


def public_key_sha256(pem: str) -> str:
    """Base64 of the SHA-256 over the public key's DER (SubjectPublicKeyInfo); `pem` has passed its checks."""
    public = read_private_key(pem).public_key()
    return b64encode(sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()).decode()


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
    if public != read_private_key(private_key).public_key():
        raise ValueError("must be the certificate of private_key: it belongs to another key")


class _Registry(JWSRegistry):
    """The algorithm is the config's: joserfc would warn of EdDSA, the only name that some servers know Ed25519 by."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


_REGISTRY = _Registry()


@dataclass(frozen=True, slots=True, repr=False)
class TokenSigner(SecretHolder):
    """Signs claims as a compact JWS; what is empty is left out of the header."""

    key: Key
    algorithm: str
    key_id: str = ""
    thumbprint: str = ""

    def __repr__(self) -> str:
        return f"TokenSigner({self.algorithm}, REDACTED)"

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        header: dict[str, Any] = {"alg": self.algorithm}
        if self.key_id:
            header["kid"] = self.key_id
        if self.thumbprint:
            header["x5t#S256"] = self.thumbprint
        return jwt.encode(header, dict(claims), self.key, registry=_REGISTRY)
