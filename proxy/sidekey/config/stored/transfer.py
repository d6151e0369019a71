"""What is stored, as config files say it, without secrets: each becomes a reference to a file that an operator fills.

Pure: no secret is opened for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sidekey.config.build.certificates import MAX_SIZE
from sidekey.config.build.trust import build_trust
from sidekey.config.errors import Finding, Loc, held, placed, show
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import PROVIDER, ProfileAdditions, expand, merged
from sidekey.config.secrets import SecretReader
from sidekey.config.stored.document import MalformedError, Saved, parts_of, replaced, secrets_in
from sidekey.config.stored.presets import build_preset, document_of
from sidekey.config.validate import validate, validate_saved
from sidekey.credentials.context import Context
from sidekey.credentials.destination import is_stored, references_in
from sidekey.credentials.fields import Reference, as_stored
from sidekey.snapshot.status import UNVERIFIED
from sidekey.store.records import CallerRow, IntegrationRow, PresetRow

FOLDER: Final = "secrets"
"""Where the files are, beside the config file."""

UNKNOWN_URL: Final = "https://fill-in.invalid/"
"""How a URL begins that must be written in place of this one: no name ends so (RFC 6761 6.4)."""

MARK: Final = "Written by sidekey export:"
"""The beginning of the first line of every export."""

_MAX_NAME_LENGTH = 48
_OTHER = re.compile("[^A-Za-z0-9_-]")


class NotExported(Exception):
    """Why something has no place in a config file; and what to do."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One object as a config file says it, below its ID.

    `needs` is what must be filled in: files, and URLs in place of others. `notes` are what the file does not say.
    """

    config: Mapping[str, Any]
    needs: tuple[str, ...]
    notes: tuple[str, ...] = ()


def exported_integration(row: IntegrationRow) -> Exported:
    """An integration. Raises NotExported."""
    if not row.verified:
        raise NotExported(UNVERIFIED)
    try:
        saved = Saved.load(row.document)
    except MalformedError as error:
        raise NotExported(f"its document {error}") from None
    validated = validate_saved(saved.written, saved.brought)
    settings = validated.settings
    if settings is None or validated.errors:
        raise NotExported(f"its document is not valid any more: {_joined(validated.errors)}")
    values: dict[Loc, Any] = {}
    needs: list[str] = []
    notes: list[str] = []
    secrets = {each.value: each for _, each in references_in(settings) if is_stored(each)}
    for secret in secrets_in(saved.written):
        reference = secrets.get(secret.id)
        if reference is None:
            continue
        name = _name(row.id, secret.place)
        if reference.source == "stored_url":
            needs.append(f"{UNKNOWN_URL}{name}")
            values[secret.place] = needs[-1]
        else:
            needs.append(f"{FOLDER}/{name}.{'pem' if reference.pem else 'txt'}")
            values[secret.place] = {"file": needs[-1]}
    written, changed = saved.written, saved.brought is not None and not _is_current(saved.written, saved.brought)
    written = replaced(written, values)
    if saved.brought is not None and changed:
        table = merged(written, saved.brought, Context("file")).table
        written = {**table, "auth": {key: value for key, value in table["auth"].items() if key != "provider"}}
        notes.append(
            f"provider {saved.brought.provider} brings something else now than when it was saved: what it brought then "
            "is written out"
        )
    errors = validate(written, Context("file")).errors
    if errors:
        raise NotExported(f"in a config file it is not valid: {_joined(errors)}")
    return Exported(written, tuple(needs), tuple(notes))


def exported_preset(row: PresetRow) -> Exported:
    """A preset, which has no secret. Raises NotExported."""
    if not row.verified:
        raise NotExported(UNVERIFIED)
    problem = build_preset(row).invalid
    if problem:
        raise NotExported(f"its document is not valid any more: {problem}")
    return Exported(document_of(row), ())


def exported_caller(row: CallerRow) -> Exported:
    """A caller. Of its token only a hash is stored, so that the token itself must be filled in, too."""
    file = f"{FOLDER}/callers/{row.id}.txt"
    granted: dict[str, Any] = {"integrations": _granted(row.integrations)}
    if row.presets != ():
        granted["presets"] = _granted(row.presets)
    return Exported({"token": {"file": file}, **granted}, (file,))


def config_of(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the sections that are not empty."""
    return {"version": 1, **{name: section for name, section in sections.items() if section}}


def comment_of(title: str, needs: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Write the comment above an export: its title, what to fill in, and notes."""
    lines = [f"{MARK} {title}{', without secrets' if needs else ''}"]
    files = [need for need in needs if not need.startswith(UNKNOWN_URL)]
    urls = [need for need in needs if need.startswith(UNKNOWN_URL)]
    if files:
        lines += ["Write each secret into its file, below the folder of this one:", *(f"  {file}" for file in files)]
    if urls:
        lines += ["Replace each of these URLs by the one that it stands for:", *(f"  {url}" for url in urls)]
    return "\n".join((*lines, *notes))


def _granted(ids: tuple[str, ...] | None) -> Any:
    return "*" if ids is None else list(ids)


def _is_current(written: Mapping[str, Any], brought: ProfileAdditions) -> bool:
    """Whether a profile brings the same today."""
    expansion = expand(written, Context("row"))
    return not expansion.errors and expansion.brought == brought


def _name(name: str, place: Loc) -> str:
    """The name of a file without its extension: no ID has a dot, and no part of a place, so that none are the same."""
    return ".".join((name, *(_word(str(part)) for part in place)))


def _word(part: str) -> str:
    """A part of a file's name, whatever the part of the place is: also for a key of a Kubernetes secret."""
    word = _OTHER.sub("_", part)[:_MAX_NAME_LENGTH]
    return part if word == part else f"{word}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def _joined(errors: Iterable[Finding]) -> str:
    return "; ".join(f"{show(each.loc)}: {each.message}" for each in errors)


class Rewritten(NamedTuple):
    """The document, as the API would be sent it, and what is to be said of it. With `errors` it is not whole.

    It holds secrets: nothing shows or logs it.
    """

    document: Mapping[str, Any]
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def rewritten(
    raw: Mapping[str, Any], settings: IntegrationSettings, read: SecretReader, written: Callable[[Loc], Loc]
) -> Rewritten:
    """Read all that an integration of a file refers to. `settings` are those of `raw`. Blocks.

    `written` says where `raw` has what is at a place of the settings (`Expansion.written`).
    """
    values: dict[Loc, Any] = {}
    errors: list[Finding] = []
    warnings: list[Finding] = []
    material = _material(settings)
    for place, reference in references_in(settings):
        where = held(raw, written(place))
        if reference.source == "url" and reference.value.startswith(UNKNOWN_URL):
            errors.append(Finding(where, "must be the URL itself, which this stands for since the export"))
        if reference.source not in ("file", "env", "insecure_value", "plain"):
            continue
        if reference.source == "plain" and (where == PROVIDER or not reference.value):
            # What a profile brings is public, and an empty text hides nothing: both stay as they are.
            continue
        try:
            text = _pem(reference, read) if any(each is reference for each in material) else read(reference)
        except ValueError as error:
            errors.append(Finding(where, str(error)))
            continue
        values[where] = as_stored(reference.form, text)
        if reference.form == "text":
            text = "is not a secret to this kind: in the store it can be read by whoever may read the integration"
            warnings.append(Finding(where, text))
    if settings.trusted_ca is not None and settings.trusted_ca.path is not None:
        trust, reason = build_trust(settings.trusted_ca, read)
        errors += [] if reason is None else [Finding(("trusted_ca",), reason)]
        values["trusted_ca",] = {"inline": trust.pem}
    return Rewritten(replaced(raw, values), tuple(errors), tuple(warnings))


def place_in(raw: Any, where: str) -> Loc:
    """The place in a document that a pointer names, whether there is something or not."""
    return placed(raw, parts_of(where))


def _material(settings: IntegrationSettings) -> list[Reference]:
    """The references that lead to a certificate or its key, which are bytes until they are examined."""
    given = settings.auth.certificate_settings() or settings.client_certificate
    return [] if given is None else list(given.references().values())


def _pem(reference: Reference, read: SecretReader) -> str:
    """Certificate or key as text. What stands around the blocks may be in any encoding. Raises ValueError."""
    return read.raw(reference, MAX_SIZE).decode("latin-1").encode("ascii", "replace").decode()
