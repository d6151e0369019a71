"""What the client certificate in a document is, before that is saved, whatever else of it is missing or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.x509 import Certificate

from sidekey.credentials.certificates.chain import name_of
from sidekey.credentials.certificates.material import Material as Halves
from sidekey.credentials.certificates.material import examine
from sidekey.credentials.certificates.settings import MATERIAL, parse_certificate, parse_key
from sidekey.credentials.fields import Reference, cleaned, is_kept, mapping, parse_secret
from sidekey.credentials.registry import KINDS
from sidekey.settings.stored.document import MalformedError, located, pointer, split_certificates
from sidekey.settings.stored.saving import DocumentError, Former

_DAY = 86400


@dataclass(frozen=True, slots=True)
class SeenCertificate:
    """A certificate at a pointer of a document. `days_left` counts whole days, those since it has expired as negative.

    `chain` counts the certificates that are sent, itself included. `belongs` says whether the private key beside it is
    its own; None: one that is kept or not there is not looked at.
    """

    pointer: str
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    days_left: int
    chain: int
    belongs: bool | None


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to say of the client certificate of a document."""

    certificate: SeenCertificate | None = None
    errors: tuple[DocumentError, ...] = ()
    warnings: tuple[DocumentError, ...] = ()


def material_of(given: Mapping[str, Any], former: Former | None, now: float) -> Material:
    """Read the client certificate, as saving reads it; `now` is in seconds since the epoch.

    What is wrong with a value before it is read, such as that it must be a reference, is for the models to say.
    """
    try:
        raw = located(split_certificates(given), None if former is None else former.certificates())
    except MalformedError:
        return Material()
    kind = KINDS.get(str(mapping(raw.get("auth")).get("type")))
    block = "auth" if kind is not None and kind.brings_certificate else "client_certificate"
    section = mapping(raw.get(block))
    data = {key: read for key in MATERIAL if (read := _bytes(section, key)) is not None}
    if not data:
        return Material()
    joined = "pem" in data
    passphrase = section.get("key_passphrase")
    kept = isinstance(passphrase, Mapping) and is_kept(passphrase)
    of_key = data.get("pem" if joined else "private_key")
    halves = Halves(
        certificate=data.get("pem" if joined else "certificate"),
        # Without its passphrase nothing can be said of a key.
        private_key=None if kept else of_key,
        passphrase=_passphrase(passphrase),
        joined=joined,
    )
    found = examine(halves, now, allow_private_ca=section.get("allow_private_ca") is True)

    def placed(said: tuple[tuple[str, str], ...]) -> tuple[DocumentError, ...]:
        return tuple(DocumentError(pointer((block, key)), text) for key, text in said)

    where = pointer((block, "pem" if joined else "certificate"))
    seen = _seen(where, found.chain, found.belongs, now) if found.chain else None
    return Material(seen, placed(found.errors), placed(found.warnings))


def _bytes(section: Mapping[str, Any], key: str) -> bytes | None:
    """What a half of the certificate is; None where it is not there, is kept, or comes from elsewhere."""
    raw = section.get(key)
    try:
        reference = parse_certificate(raw) if key == "certificate" else parse_key(raw)
        return _entered(reference, raw).encode()
    except (ValueError, LookupError):
        return None


def _entered(reference: Reference, raw: Any) -> str:
    """The text that was sent for a reference. Raises LookupError where none was, ValueError where it is not valid."""
    return reference.value if reference.source == "inline" else cleaned(reference, raw["value"])


def _passphrase(raw: Any) -> str | None:
    try:
        return _entered(parse_secret(raw), raw)
    except (ValueError, LookupError):
        return None


def _seen(where: str, chain: tuple[Certificate, ...], belongs: bool | None, now: float) -> SeenCertificate:
    leaf = chain[0]
    return SeenCertificate(
        pointer=where,
        subject=name_of(leaf.subject),
        issuer=name_of(leaf.issuer),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        days_left=int((leaf.not_valid_after_utc.timestamp() - now) / _DAY),
        chain=len(chain),
        belongs=belongs,
    )
