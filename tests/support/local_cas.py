"""Local CAs for tests: scopes, CAs, rules in a folder, and independent verifiers."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from sidekey.ca.authorities import CaRules, LocalAuthority
from sidekey.ca.certificates import create_authority
from sidekey.ca.scope import Scope
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from support.certificates import IssuedCertificate, issue, name
from support.tls_peer import handshake

NOW = 1_790_000_000.0
"""A wall clock, in seconds since the epoch."""

DAY = 86_400.0


def scope_of(*urls: str) -> Scope:
    """Build the scope of a policy for each URL. A URL with a star is an allowed domain."""
    policies = [
        Policy(domains=(parse_domain(url),)) if "*" in url else Policy(prefixes=(parse_prefix(url),)) for url in urls
    ]
    return Scope.of(policies)


def authority_of(*urls: str, generation: int = 1, now: float = NOW) -> LocalAuthority:
    """Create a CA for these URLs."""
    return create_authority(scope_of(*urls), generation, now)


def rules_in(folder: Path, *urls: str, **others: object) -> CaRules:
    """Build rules for a CA of these URLs, stored in `folder`."""
    return CaRules(folder=folder, trust_folder=folder / "trust", scope=scope_of(*urls), **others)  # type: ignore[arg-type]


def cert_manager_secret(host: str) -> dict[str, str]:
    """Create a CA for a host as cert-manager stores it in a Secret: signed by a root in a separate key."""
    start = datetime.now(UTC) - timedelta(days=1)
    root = issue("Root of the cluster", authority=True, start=start, life=timedelta(days=900))
    key = ec.generate_private_key(ec.SECP256R1())
    usage = root.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    permitted = [x509.DNSName(host)]
    excluded = [x509.IPAddress(ip_network(every)) for every in ("0.0.0.0/0", "::/0")]
    builder = (
        x509.CertificateBuilder(root.certificate.subject, name("Sidekey"), key.public_key(), 7)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
    )
    signed = IssuedCertificate(builder.sign(root.key, SHA256()), key)
    return {"tls.crt": signed.pem.decode(), "tls.key": signed.key_pem.decode(), "ca.crt": root.pem.decode()}


def verified(server: ssl.SSLContext, host: str, trusted: str) -> str | None:
    """Return the error of Python's strict verification of a server, or None."""
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        handshake(client, server, name=host)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return None
