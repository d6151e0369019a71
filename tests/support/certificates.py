"""Client certificates for tests, valid and invalid, created with `cryptography` in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from support import programs
from support.keys import private_key

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

NOW = datetime(2026, 6, 1, tzinfo=UTC)
"""Time for tests that pass a time."""

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, slots=True, repr=False)
class IssuedCertificate:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        """The certificate without its chain, in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def key_as(
        self,
        form: PrivateFormat = PrivateFormat.PKCS8,
        passphrase: str | None = None,
        encoding: Encoding = Encoding.PEM,
    ) -> bytes:
        """Return the key in another format, or encrypted."""
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            encryption = BestAvailableEncryption(passphrase.encode())
        return self.key.private_bytes(encoding, form, encryption)

    @property
    def key_pem(self) -> bytes:
        """The key in PKCS#8, without a passphrase."""
        return self.key_as()


def name(text: str | x509.Name) -> x509.Name:
    """Build a name with a common name, or an empty one without it. Returns an x509.Name unchanged."""
    if isinstance(text, x509.Name):
        return text
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def issue(
    subject: str | x509.Name = "client.example",
    issuer: IssuedCertificate | None = None,
    *,
    key: Key | None = None,
    start: datetime | None = None,
    life: timedelta = timedelta(days=90),
    authority: bool = False,
    usages: Sequence[x509.ObjectIdentifier] | None = (CLIENT_AUTH,),
    signs: bool = True,
    issuers_url: str | None = None,
    names: Sequence[x509.GeneralName] = (),
) -> IssuedCertificate:
    """Issue a certificate by `issuer` (None: self-signed), valid from `start` (a day before `NOW`) for `life`.

    With `usages` None it has no extended key usage. With `signs` False its key usage lacks digitalSignature.
    `names` are its subject alternative names.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    start = start or NOW - timedelta(days=1)
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder(name(subject) if issuer is None else issuer.certificate.subject, name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(_key_usage(signs=signs, authority=authority), critical=True)
    )
    if usages is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if issuers_url is not None:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(issuers_url)
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return IssuedCertificate(
        builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256()), key
    )


def _key_usage(*, signs: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=authority,
        crl_sign=authority,
        key_encipherment=not signs,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, slots=True)
class Chain:
    """A private CA like a bank's: a root, an intermediate, and a client's certificate."""

    root: IssuedCertificate
    intermediate: IssuedCertificate
    leaf: IssuedCertificate

    @property
    def pem(self) -> bytes:
        """Leaf and intermediate in PEM."""
        return self.leaf.pem + self.intermediate.pem


def signed_with(digest: str, folder: Path) -> tuple[bytes, bytes]:
    """Create a self-signed certificate and its key. `cryptography` does not sign with SHA-1 and MD5."""
    key = private_key("RS256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key").write_bytes(key)
    command = [
        programs.require("openssl"),
        "req",
        "-x509",
        f"-{digest}",
        "-key",
        str(folder / "key"),
        "-subj",
        f"/CN={digest}",
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout, key


def private_chain(subject: str = "client.example", *, issuers_url: str | None = None) -> Chain:
    """Create a CA with a client's certificate, valid at `NOW`."""
    root = issue("Bank Root CA", authority=True, life=timedelta(days=3650))
    intermediate = issue("Bank Client CA", root, authority=True, life=timedelta(days=1825))
    return Chain(root, intermediate, issue(subject, intermediate, issuers_url=issuers_url))
