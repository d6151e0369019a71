"""Certificates for the components of a cluster, and for the servers that tests run in it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME: Final = datetime.timedelta(days=2)
_KEY_USAGES: Final = (
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


class Authority:
    """A CA that exists for one run."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            # Python 3.13 and newer verify strictly: a CA without key usage is refused (RFC 5280 4.2.1.3).
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate: Final = certificate.public_bytes(serialization.Encoding.PEM)

    def save(self, stem: Path) -> None:
        """Write the certificate and the key of the CA."""
        stem.with_suffix(".crt").write_bytes(self.certificate)
        stem.with_suffix(".key").write_bytes(_pem(self._key))

    def issue(
        self, stem: Path, name: str, group: str = "", *, names: Sequence[str] = (), addresses: Sequence[str] = ()
    ) -> None:
        """Write a key and its certificate, for servers and clients, to `stem`.key and `stem`.crt."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
        subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            self._builder(subject, key.public_key())
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        alternatives = [
            *(x509.DNSName(value) for value in names),
            *(x509.IPAddress(ip_address(value)) for value in addresses),
        ]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self._sign(builder, key, stem)

    def issue_as_cert_manager(self, stem: Path, *names: str) -> None:
        """Write a server's key and its certificate as cert-manager issues them for a Certificate with only `dnsNames`.

        The subject is empty, so the alternative names are critical (RFC 5280 4.2.1.6). There is no extended key usage.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(x509.Name([]), key.public_key())
            .add_extension(_usage("digital_signature", "key_encipherment"), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        )
        self._sign(builder, key, stem)

    def _sign(self, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, stem: Path) -> None:
        certificate = builder.sign(self._key, hashes.SHA256())
        stem.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        stem.with_suffix(".key").write_bytes(_pem(key))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + _LIFETIME)
        )


def _usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in _KEY_USAGES})


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # The default of cert-manager.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
