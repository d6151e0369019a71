"""Build the loader of an integration's client certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from sidekey.config.file_stamps import Stamp, stamp
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.certificates.validate import CertificateInput, check_client_certificate
from sidekey.credentials.fields import Keys, Reference
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult, Messages

MAX_SIZE = 256 << 10
"""Maximum bytes of a certificate with its chain and key."""


def build_certificate_loader(
    settings: IntegrationSettings, read: ReferenceReader, now: float, stamp_of: Callable[[Path], Stamp] = stamp
) -> CertificateLoader | None:
    """Build the loader and load the certificate once. Return None for an integration without a client certificate.

    `stamp_of` is called for each file before the read.
    """
    section, certificate = _section_of(settings)
    if certificate is None:
        return None
    references = certificate.references()
    urls = tuple(
        ((section, key), url) for key, reference in references.items() if (url := _url(reference, read)) is not None
    )
    loader = CertificateLoader(
        partial(_load_certificate, section, certificate, read),
        files=tuple(_files(_references(certificate), read)),
        urls=urls,
        refresh_every=certificate.refresh if urls else None,
    )
    for path in loader.files:
        stamp_of(path)
    loader.load(now)
    return loader


def _section_of(settings: IntegrationSettings) -> tuple[str, CertificateSettings | None]:
    """Return the key and the settings of the section that has the client certificate."""
    in_auth = settings.auth.certificate_settings()
    return ("client_certificate", settings.client_certificate) if in_auth is None else ("auth", in_auth)


def secret_files(settings: IntegrationSettings, read: ReferenceReader) -> list[Path]:
    """Return the files of a client certificate that hold its private key, or the key's passphrase."""
    _, certificate = _section_of(settings)
    if certificate is None:
        return []
    return _files([reference for reference in _references(certificate) if reference.is_secret], read)


def _url(reference: Reference, read: ReferenceReader) -> str | None:
    """Return the URL of a reference, or None if it has none or an unreadable one, which `_load_certificate` reports."""
    if reference.source == "url":
        return reference.value
    try:
        return read(reference) if reference.source == "stored_url" else None
    except ValueError:
        return None


def _references(certificate: CertificateSettings) -> list[Reference]:
    passphrase = certificate.key_passphrase
    return [*certificate.references().values(), *([] if passphrase is None else [passphrase])]


def _files(references: Iterable[Reference], read: ReferenceReader) -> list[Path]:
    return [path for reference in references if (path := read.file(reference)) is not None]


def _load_certificate(
    section: str, settings: CertificateSettings, read: ReferenceReader, fetched: Mapping[Keys, bytes], now: float
) -> CertificateResult:
    data: dict[str, bytes] = {}
    reasons: list[tuple[str, str]] = []
    for key, reference in settings.references().items():
        try:
            data[key] = _bytes(reference, read, fetched.get((section, key)))
        except ValueError as error:
            reasons.append((key, str(error)))
    passphrase, is_key_locked = None, False
    if settings.key_passphrase is not None:
        try:
            passphrase = read(settings.key_passphrase)
        except ValueError as error:
            reasons.append(("key_passphrase", str(error)))
            is_key_locked = True
    is_combined = settings.pem is not None
    key_bytes = data.get("pem" if is_combined else "private_key")
    material = CertificateInput(
        certificate=data.get("pem" if is_combined else "certificate"),
        # Without its passphrase the key cannot be checked.
        private_key=None if is_key_locked else key_bytes,
        passphrase=passphrase,
        combined=is_combined,
    )
    examined = check_client_certificate(material, now, allow_private_ca=settings.allow_private_ca)

    def located(messages: tuple[tuple[str, str], ...]) -> Messages:
        return tuple(((section, key), text) for key, text in messages)

    return CertificateResult(
        examined.identity,
        located((*reasons, *examined.errors)),
        located(examined.warnings),
        examined.not_after,
        refused=not reasons and bool(examined.errors),
    )


def _bytes(reference: Reference, read: ReferenceReader, fetched: bytes | None) -> bytes:
    """Return the bytes of a reference. Raises ValueError."""
    if reference.source not in ("url", "stored_url"):
        return read.raw(reference, MAX_SIZE)
    if fetched is None:
        if reference.source == "stored_url":
            read(reference)
        raise ValueError("has not been fetched yet")
    return fetched
