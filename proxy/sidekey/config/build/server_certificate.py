"""Read the certificate of a listener, and the CAs that verify its clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import (
    BasicConstraints,
    Certificate,
    DuplicateExtension,
    ExtendedKeyUsage,
    ExtensionNotFound,
    ExtensionType,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from sidekey.config.build.certificates import MAX_SIZE
from sidekey.config.build.last_load import LastLoad
from sidekey.config.errors import Loc, LocatedErrors
from sidekey.config.models import ListenTlsSettings, ServerTlsSettings
from sidekey.config.secrets import SecretReader
from sidekey.snapshot.admin import ListenTls, ServerCertificate


def read_server_certificate(
    settings: ServerTlsSettings, read: SecretReader, base: Loc
) -> tuple[ServerCertificate | None, LocatedErrors]:
    """Read a certificate and its key. Return None and the errors, with locations under `base`, if one is unusable."""
    data: dict[str, bytes] = {}
    reasons: LocatedErrors = []
    for key, reference in {"certificate": settings.certificate, "private_key": settings.private_key}.items():
        try:
            data[key] = read.raw(reference, MAX_SIZE)
        except ValueError as error:
            reasons.append(((*base, key), str(error)))
    if not reasons:
        reasons += [((*base, key), text) for key, text in _pair_errors(data).items()]
    return (None, reasons) if reasons else (ServerCertificate(data["certificate"], data["private_key"]), [])


def read_listen_tls(
    settings: ListenTlsSettings, read: SecretReader, previous: ListenTls | None, last: LastLoad
) -> ListenTls | None:
    """Read the TLS of the proxy listener. Return None if the certificate or a CA is unusable and `last` keeps none."""
    base = ("listen", "tls")
    certificate, reasons = read_server_certificate(settings, read, base)
    for loc, reason in reasons:
        old = None if previous is None else previous.certificate
        certificate = last.keep(old, base, loc=loc, reason=reason, required=True)
    client_cas: frozenset[bytes] | None = frozenset()
    if settings.client_ca is not None:
        try:
            client_cas = _certificates(read.raw(settings.client_ca, MAX_SIZE))
        except ValueError as error:
            cas = None if previous is None else previous.client_cas
            client_cas = last.keep(cas, base, loc=(*base, "client_ca"), reason=str(error), required=True)
    if certificate is None or client_cas is None:
        return None
    expires_at = load_pem_x509_certificates(certificate.chain)[0].not_valid_after_utc.timestamp()
    return ListenTls(certificate, expires_at, client_cas, bool(client_cas) and settings.client_auth != "optional")


def find_warnings(tls: ListenTls, now: float) -> Iterator[tuple[Loc, str]]:
    """Yield warnings of a server certificate that clients refuse, and of a client CA that is none."""
    certificate = load_pem_x509_certificates(tls.certificate.chain)[0]
    if tls.expires_at <= now:
        end = certificate.not_valid_after_utc
        yield ("listen", "tls", "certificate"), f"expired at {end:%Y-%m-%dT%H:%M:%SZ}, so clients refuse it: renew it"
    usages = _extension(certificate, ExtendedKeyUsage)
    if usages is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        yield ("listen", "tls", "certificate"), "is not for servers (extended key usage serverAuth): clients refuse it"
    for der in tls.client_cas:
        constraints = _extension(load_der_x509_certificate(der), BasicConstraints)
        if constraints is None or not constraints.ca:
            yield ("listen", "tls", "client_ca"), "has a certificate that is no CA: write the CA that issued it"
            return


E = TypeVar("E", bound=ExtensionType)


def _extension(certificate: Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (ExtensionNotFound, DuplicateExtension, ValueError):
        return None


def _certificates(pem: bytes) -> frozenset[bytes]:
    try:
        return frozenset(certificate.public_bytes(Encoding.DER) for certificate in load_pem_x509_certificates(pem))
    except ValueError:
        raise ValueError("must be certificates in PEM") from None


def _pair_errors(data: Mapping[str, bytes]) -> dict[str, str]:
    """Return the errors of a certificate and its key, by key. The library's own messages might repeat the input."""
    try:
        chain = load_pem_x509_certificates(data["certificate"])
    except ValueError:
        return {"certificate": "must be a certificate in PEM, with its chain after it"}
    try:
        key = load_pem_private_key(data["private_key"], None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return {"private_key": "must be a private key in PEM that is not encrypted"}
    if key.public_key() != chain[0].public_key():
        return {"private_key": "must be the key of the first certificate in `certificate`"}
    return {}
