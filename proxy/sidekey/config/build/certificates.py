"""Makes the loader of an integration's client certificate: what is read for it, and the places of its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from sidekey.config.file_stamps import Stamp, stamp
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.credentials.certificates.settings import CertificateSettings
from sidekey.credentials.certificates.validate import CertificateInput, examine
from sidekey.credentials.fields import Keys, Reference
from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult, Messages

MAX_SIZE = 256 << 10
"""Bytes of a certificate with its chain and key."""


def build_certificate_loader(
    settings: IntegrationSettings, read: ReferenceReader, now: float, look: Callable[[Path], Stamp] = stamp
) -> CertificateLoader | None:
    """The loader, after its first reading; None for an integration without a client certificate.

    `look` is asked for every file that is about to be read.
    """
    block, given = _block_of(settings)
    if given is None:
        return None
    references = given.references()
    urls = tuple(((block, key), url) for key, each in references.items() if (url := _url(each, read)) is not None)
    loader = CertificateLoader(
        partial(_load, block, given, read),
        files=tuple(_files(_references(given), read)),
        urls=urls,
        refresh_every=given.refresh if urls else None,
    )
    for path in loader.files:
        look(path)
    loader.load(now)
    return loader


def _block_of(settings: IntegrationSettings) -> tuple[str, CertificateSettings | None]:
    """Return the key of the client certificate's block, and the block."""
    given = settings.auth.certificate_settings()
    return ("client_certificate", settings.client_certificate) if given is None else ("auth", given)


def secret_files(settings: IntegrationSettings, read: ReferenceReader) -> list[Path]:
    """Return the files of a client certificate that hold its private key, or the key's passphrase."""
    _, given = _block_of(settings)
    return [] if given is None else _files([each for each in _references(given) if each.is_secret], read)


def _url(reference: Reference, read: ReferenceReader) -> str | None:
    """The URL that a reference names; None where it names none, or one that cannot be read, as `_load` will say."""
    if reference.source == "url":
        return reference.value
    try:
        return read(reference) if reference.source == "stored_url" else None
    except ValueError:
        return None


def _references(given: CertificateSettings) -> list[Reference]:
    return [*given.references().values(), *([] if given.key_passphrase is None else [given.key_passphrase])]


def _files(references: Iterable[Reference], read: ReferenceReader) -> list[Path]:
    return [path for each in references if (path := read.file(each)) is not None]


def _load(
    block: str, given: CertificateSettings, read: ReferenceReader, fetched: Mapping[Keys, bytes], now: float
) -> CertificateResult:
    data: dict[str, bytes] = {}
    reasons: list[tuple[str, str]] = []
    for key, reference in given.references().items():
        try:
            data[key] = _bytes(reference, read, fetched.get((block, key)))
        except ValueError as error:
            reasons.append((key, str(error)))
    passphrase, hidden = None, False
    if given.key_passphrase is not None:
        try:
            passphrase = read(given.key_passphrase)
        except ValueError as error:
            reasons.append(("key_passphrase", str(error)))
            hidden = True
    joined = given.pem is not None
    key_bytes = data.get("pem" if joined else "private_key")
    material = CertificateInput(
        certificate=data.get("pem" if joined else "certificate"),
        # Without its passphrase nothing can be said of a key.
        private_key=None if hidden else key_bytes,
        passphrase=passphrase,
        combined=joined,
    )
    examined = examine(material, now, allow_private_ca=given.allow_private_ca)

    def placed(found: tuple[tuple[str, str], ...]) -> Messages:
        return tuple(((block, key), text) for key, text in found)

    return CertificateResult(
        examined.identity,
        placed((*reasons, *examined.errors)),
        placed(examined.warnings),
        examined.not_after,
        refused=not reasons and bool(examined.errors),
    )


def _bytes(reference: Reference, read: ReferenceReader, fetched: bytes | None) -> bytes:
    """What a reference leads to. Raises ValueError with the reason."""
    if reference.source not in ("url", "stored_url"):
        return read.raw(reference, MAX_SIZE)
    if fetched is None:
        if reference.source == "stored_url":
            read(reference)
        raise ValueError("has not been fetched yet")
    return fetched
