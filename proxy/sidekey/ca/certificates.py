"""Create and read the certificates of a CA and its leaves (RFC 5280). Pure: keys and the time are arguments."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidekey.ca.authorities import MARK, LocalAuthority
from sidekey.ca.scope import Bounds, Scope
from sidekey.credentials.certificates.keys import PrivateKey, open_key, to_pem
from sidekey.credentials.certificates.pem_der import parse_pem
from sidekey.policy.addresses import Network, parse_address

BACKDATING = timedelta(days=1)
"""Time by which validity begins in the past, for callers whose clock is slow."""
CA_LIFETIME = timedelta(days=730)
LEAF_LIFETIME = timedelta(days=7)

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def create_key() -> ec.EllipticCurvePrivateKey:
    """Create a key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def create_authority(scope: Scope, generation: int, now: float) -> LocalAuthority:
    """Create a self-signed CA that may sign for this scope only; `now` is in seconds since the epoch."""
    key = create_key()
    bounds = Bounds.exactly(scope)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, MARK),
            # A unique name, because a verifier finds the issuer by it.
            x509.NameAttribute(NameOID.COMMON_NAME, f"{MARK} {secrets.token_hex(8)}"),
        ]
    )
    moment = _to_datetime(now)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATING)
        .not_valid_after(moment + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(build_name_constraints(bounds), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    return LocalAuthority(
        generation=generation,
        bounds=(bounds,),
        not_after=certificate.not_valid_after_utc.timestamp(),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        certificate=pem,
        key=to_pem(key).decode(),
        trusted=pem,
    )


class LeafSigner:
    """Issues leaves of a CA. It parses the CA's key once, and all leaves have the key `leaf_key`."""

    def __init__(self, authority: LocalAuthority, leaf_key: ec.EllipticCurvePrivateKey) -> None:
        self._authority = authority
        self._certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
        (block,) = parse_pem(authority.key.encode())
        self._key = open_key(block, None)
        self._leaf_key_pem = to_pem(leaf_key).decode()
        issuer, public = self._certificate, leaf_key.public_key()
        # The parts that all leaves share, which are a third of the cost of a leaf.
        self._template = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.subject)
            .public_key(public)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_authority_key_id(issuer), critical=False)
        )

    def __repr__(self) -> str:
        return f"LeafSigner({self._authority!r})"

    def issue(self, host: str, now: float) -> tuple[str, float]:
        """Issue a leaf for this host. Return leaf, chain and key in PEM, and the time when the leaf expires.

        A leaf does not outlive its CA.
        """
        moment = _to_datetime(now)
        address = parse_address(host)
        name = x509.DNSName(host) if address is None else x509.IPAddress(ip_address(str(address)))
        issuer = self._certificate
        end = min(moment + LEAF_LIFETIME, issuer.not_valid_after_utc)
        certificate = (
            self._template.serial_number(x509.random_serial_number())
            .not_valid_before(max(moment - BACKDATING, issuer.not_valid_before_utc))
            .not_valid_after(end)
            # Critical, since the subject is empty (RFC 5280 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .sign(self._key, _digest(self._key))
        )
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return pem + self._authority.served + self._leaf_key_pem, end.timestamp()


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    """Return the digest for signatures by a key, or None for Edwards curves, which imply one (RFC 8410)."""
    return None if isinstance(key, (Ed25519PrivateKey, Ed448PrivateKey)) else hashes.SHA256()


def _authority_key_id(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Build the authority key identifier of leaves (RFC 5280 4.2.1.1)."""
    try:
        key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)


def _key_usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in names for usage in _USAGES})


def _to_datetime(now: float) -> datetime:
    return datetime.fromtimestamp(int(now), UTC)


def build_name_constraints(bounds: Bounds) -> x509.NameConstraints:
    """Build the extension for bounds, which must permit or exclude something."""
    return x509.NameConstraints(
        permitted_subtrees=_subtrees(bounds.names or (), bounds.networks or ()),
        excluded_subtrees=_subtrees(bounds.excluded_names, bounds.excluded_networks),
    )


def _subtrees(names: Collection[str], networks: Collection[Network]) -> list[x509.GeneralName] | None:
    subtrees: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names)]
    by_address = sorted(networks, key=lambda network: (network.version, int(network.network_address)))
    subtrees += [x509.IPAddress(network) for network in by_address]
    return subtrees or None


def read_bounds(certificate: x509.Certificate) -> Bounds:
    """Read the name constraints of a CA's certificate for DNS names and IP addresses."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return Bounds()
    permitted, excluded = extension.permitted_subtrees or [], extension.excluded_subtrees or []
    return Bounds(
        names=_names(permitted) or None,
        networks=_networks(permitted) or None,
        excluded_names=_names(excluded),
        excluded_networks=_networks(excluded),
    )


def _names(subtrees: Sequence[x509.GeneralName]) -> frozenset[str]:
    return frozenset(name.value.lower() for name in subtrees if isinstance(name, x509.DNSName))


def _networks(subtrees: Sequence[x509.GeneralName]) -> frozenset[Network]:
    return frozenset(
        name.value
        for name in subtrees
        if isinstance(name, x509.IPAddress) and isinstance(name.value, (IPv4Network, IPv6Network))
    )
