"""Export stored objects to config files, and import integrations of config files.

An export has no secrets: each becomes a reference to a file that the operator fills. An import reads all references of
an integration, and produces a document as the API accepts it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sidekey.config.build.certificates import MAX_SIZE
from sidekey.config.build.trust import build_trust
from sidekey.config.errors import Finding, Loc, existing_loc, format_loc, loc_of
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import PROVIDER, ProfileAdditions, expand, merge_additions
from sidekey.config.secrets import SecretReader
from sidekey.config.stored.document import MalformedError, SavedDocument, pointer_keys, secrets_in, with_values
from sidekey.config.stored.presets import build_preset, load_document
from sidekey.config.validate import validate, validate_saved
from sidekey.credentials.context import Context
from sidekey.credentials.destination import is_stored, references_in
from sidekey.credentials.fields import Reference, write_stored
from sidekey.snapshot.status import UNVERIFIED
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow

SECRETS_FOLDER: Final = "secrets"
"""Folder of the secret files, beside the config file."""

PLACEHOLDER_URL: Final = "https://fill-in.invalid/"
"""Prefix of the placeholders for secret URLs, which the operator replaces. `.invalid` never resolves (RFC 6761 6.4)."""

MARK: Final = "Written by sidekey export:"
"""Start of the first line of every export."""

_MAX_NAME_LENGTH = 48
_NOT_ALLOWED = re.compile("[^A-Za-z0-9_-]")


class NotExported(Exception):
    """An object cannot be exported. The message says why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The config of one object, below its ID.

    `needs` are the files and placeholder URLs that the operator must fill in. `notes` are comments for the file.
    """

    config: Mapping[str, Any]
    needs: tuple[str, ...]
    notes: tuple[str, ...] = ()


def export_integration(row: IntegrationRow) -> Exported:
    """Export an integration. Raises NotExported."""
    if not row.verified:
        raise NotExported(UNVERIFIED)
    try:
        saved = SavedDocument.load(row.document)
    except MalformedError as error:
        raise NotExported(f"its document {error}") from None
    validated = validate_saved(saved.content, saved.from_profile)
    settings = validated.settings
    if settings is None or validated.errors:
        raise NotExported(f"its document is not valid any more: {_join_errors(validated.errors)}")
    values: dict[Loc, Any] = {}
    needs: list[str] = []
    notes: list[str] = []
    secrets = {reference.value: reference for _, reference in references_in(settings) if is_stored(reference)}
    for secret in secrets_in(saved.content):
        reference = secrets.get(secret.id)
        if reference is None:
            continue
        name = _file_name(row.id, secret.loc)
        if reference.source == "stored_url":
            needs.append(f"{PLACEHOLDER_URL}{name}")
            values[secret.loc] = needs[-1]
        else:
            needs.append(f"{SECRETS_FOLDER}/{name}.{'pem' if reference.pem else 'txt'}")
            values[secret.loc] = {"file": needs[-1]}
    document = with_values(saved.content, values)
    if saved.from_profile is not None and not _is_current(saved.content, saved.from_profile):
        table = merge_additions(document, saved.from_profile, Context("file")).table
        document = {**table, "auth": {key: value for key, value in table["auth"].items() if key != "provider"}}
        notes.append(
            f"provider {saved.from_profile.provider} adds other keys now than when this integration was saved: the "
            "keys that it added then are written here in full"
        )
    errors = validate(document, Context("file")).errors
    if errors:
        raise NotExported(f"in a config file it is not valid: {_join_errors(errors)}")
    return Exported(document, tuple(needs), tuple(notes))


def export_preset(row: PresetRow) -> Exported:
    """Export a preset, which has no secrets. Raises NotExported."""
    if not row.verified:
        raise NotExported(UNVERIFIED)
    problem = build_preset(row).invalid
    if problem:
        raise NotExported(f"its document is not valid any more: {problem}")
    return Exported(load_document(row), ())


def export_caller(row: CallerRow) -> Exported:
    """Export a caller. The store has only a hash of its token, so the operator must fill in the token."""
    file = f"{SECRETS_FOLDER}/callers/{row.id}.txt"
    granted: dict[str, Any] = {"integrations": _granted_ids(row.integrations)}
    if row.presets != ():
        granted["presets"] = _granted_ids(row.presets)
    return Exported({"token": {"file": file}, **granted}, (file,))


def config_of(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """Build a config from the sections that are not empty."""
    return {"version": 1, **{name: section for name, section in sections.items() if section}}


def build_comment(title: str, needs: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Build the comment above an export: its title, what to fill in, and notes."""
    lines = [f"{MARK} {title}{', without secrets' if needs else ''}"]
    files = [need for need in needs if not need.startswith(PLACEHOLDER_URL)]
    urls = [need for need in needs if need.startswith(PLACEHOLDER_URL)]
    if files:
        lines += ["Write each secret into its file, below the folder of this one:", *(f"  {file}" for file in files)]
    if urls:
        lines += ["Replace each of these placeholders with the real URL:", *(f"  {url}" for url in urls)]
    return "\n".join((*lines, *notes))


def _granted_ids(ids: tuple[str, ...] | None) -> Any:
    return "*" if ids is None else list(ids)


def _is_current(document: Mapping[str, Any], additions: ProfileAdditions) -> bool:
    """Return True if the profile still adds the same keys as when the document was saved."""
    expansion = expand(document, Context("row"))
    return not expansion.errors and expansion.additions == additions


def _file_name(name: str, loc: Loc) -> str:
    """Build a file name without extension. Neither IDs nor `_file_name_part` contain a dot, so names are unique."""
    return ".".join((name, *(_file_name_part(str(part)) for part in loc)))


def _file_name_part(part: str) -> str:
    """Build a part of a file name that is also valid in a key of a Kubernetes Secret."""
    cleaned = _NOT_ALLOWED.sub("_", part)[:_MAX_NAME_LENGTH]
    return part if cleaned == part else f"{cleaned}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def _join_errors(errors: Iterable[Finding]) -> str:
    return "; ".join(f"{format_loc(error.loc)}: {error.message}" for error in errors)


class ImportedDocument(NamedTuple):
    """A document as the API accepts it. With `errors` it is incomplete.

    It contains secrets, so nothing may show or log it.
    """

    document: Mapping[str, Any]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def read_references(
    raw: Mapping[str, Any], settings: IntegrationSettings, read: SecretReader, locate_written: Callable[[Loc], Loc]
) -> ImportedDocument:
    """Replace the references in an integration of a file by the values that they lead to. Blocks.

    `settings` are those of `raw`. `locate_written` returns the location in `raw` of a location in the settings.
    """
    values: dict[Loc, Any] = {}
    errors: list[Finding] = []
    warnings: list[Finding] = []
    certificate_references = _certificate_references(settings)
    for loc, reference in references_in(settings):
        written_at = existing_loc(raw, locate_written(loc))
        if reference.source == "url" and reference.value.startswith(PLACEHOLDER_URL):
            errors.append(Finding(written_at, "must be the URL itself: this is the placeholder that the export wrote"))
        if reference.source not in ("file", "env", "command", "insecure_value", "plain"):
            continue
        if reference.source == "plain" and (written_at == PROVIDER or not reference.value):
            # Values from a profile are public, and an empty text hides nothing.
            continue
        try:
            text = (
                _read_pem(reference, read)
                if any(item is reference for item in certificate_references)
                else read(reference)
            )
        except ValueError as error:
            errors.append(Finding(written_at, str(error)))
            continue
        values[written_at] = write_stored(reference.form, text)
        if reference.form == "text":
            text = "is not a secret for this kind: in the store, everybody who may read the integration can read it"
            warnings.append(Finding(written_at, text))
    if settings.trusted_ca is not None and settings.trusted_ca.path is not None:
        trust, reason = build_trust(settings.trusted_ca, read)
        errors += [] if reason is None else [Finding(("trusted_ca",), reason)]
        values["trusted_ca",] = {"inline": trust.pem}
    return ImportedDocument(with_values(raw, values), tuple(errors), tuple(warnings))


def loc_of_pointer(raw: Any, pointer: str) -> Loc:
    """Convert a JSON pointer to a location in a document. The document may have nothing there."""
    return loc_of(raw, pointer_keys(pointer))


def _certificate_references(settings: IntegrationSettings) -> list[Reference]:
    """Return the references to a certificate and its key, which are read as bytes."""
    certificate = settings.auth.certificate_settings() or settings.client_certificate
    return [] if certificate is None else list(certificate.references().values())


def _read_pem(reference: Reference, read: SecretReader) -> str:
    """Read a certificate or key as PEM. Text around the blocks may have any encoding. Raises ValueError."""
    return read.raw(reference, MAX_SIZE).decode("latin-1").encode("ascii", "replace").decode()
