"""Validate a document that is sent to be saved. Pure: no secret is opened for it.

A new secret is `{value: ...}`, and a stored one `{set: true, id: ...}`, which keeps it if its purpose is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from sidekey.config import checks
from sidekey.config.addresses import ABSENT, is_local
from sidekey.config.build.certificates import build_certificate_loader
from sidekey.config.build.integration import read_parts
from sidekey.config.errors import MAX_ERRORS, MORE_ERRORS, Finding, Loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.config.stored.document import (
    Saved,
    SecretAt,
    as_kept,
    merge_patch,
    pointer,
    secrets_in,
    split_certificates,
    with_new_ids,
)
from sidekey.config.stored.secrets import changes_of, purpose_of, secret_ids
from sidekey.config.validate import validate, validate_rest, validate_saved
from sidekey.credentials.context import Context
from sidekey.credentials.destination import is_stored, references_in
from sidekey.credentials.fields import SEND_VALUE, WRITTEN, Entered, Reference, cleaned
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import Purpose

MAX_TITLE_LENGTH: Final = 200
MAX_DESCRIPTION_LENGTH: Final = 2000
MAX_TAGS: Final = 50
MAX_TAG_LENGTH: Final = 100
"""Characters and tags of a stored integration or preset: a list shows those of fifty, to whoever may look."""


class DocumentError(NamedTuple):
    """What must be true of the value at a JSON pointer of the document that was sent. Nothing of it is repeated."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """The document is refused, with every error there is."""

    errors: tuple[DocumentError, ...]


@dataclass(frozen=True, slots=True)
class Draft(SecretHolder):
    """A document that may be saved. `entered` are the values to seal, by ID. What is `kept` stays sealed as it is."""

    saved: Saved
    settings: IntegrationSettings
    purpose: Purpose
    entered: Mapping[str, str] = field(repr=False)
    kept: tuple[str, ...]
    warnings: tuple[DocumentError, ...]


@dataclass(frozen=True, slots=True)
class PreviousIntegration:
    """The stored integration: its document, the IDs of its secrets, and what they are for.

    `purpose` is None if the document is not valid any more.
    """

    saved: Saved
    secrets: frozenset[str]
    purpose: Purpose | None

    @classmethod
    def load(cls, row: IntegrationRow) -> PreviousIntegration:
        """Load a row. Raises MalformedError."""
        saved = Saved.load(row.document)
        settings, errors, _, expansion = validate_saved(saved.written, saved.brought)
        if settings is None or errors:
            return cls(saved, frozenset(row.secrets), None)
        purpose = purpose_of(saved.written, expansion.table, settings)
        return cls(saved, frozenset(row.secrets.keys() & purpose.places.keys()), purpose)

    def patched(self, patch: Mapping[str, Any]) -> Any:
        """Return the document after a merge patch (RFC 7396)."""
        return merge_patch(self.saved.written, patch)


@dataclass(frozen=True, slots=True)
class Assessment(SecretHolder):
    """The result of validating a document that is to replace what is stored.

    `settings` is None if the models refuse the document; if there are errors, nothing may be built from it. `entered`
    are the values that came with it, by ID. `again` are the secrets to enter again, with the reason. Only a document
    that may be saved has a `draft`.
    """

    settings: IntegrationSettings | None
    errors: tuple[DocumentError, ...]
    warnings: tuple[DocumentError, ...] = ()
    entered: Mapping[str, str] = field(default_factory=dict, repr=False)
    again: tuple[DocumentError, ...] = ()
    draft: Draft | None = None


def assess(given: Mapping[str, Any], former: PreviousIntegration | None, *, in_flight: int, now: float) -> Assessment:
    """Validate a document that is to replace the stored one, if there is one.

    `in_flight` is the process's limit of requests in flight, `now` in seconds since the epoch.
    """
    raw = with_new_ids(split_certificates(given))
    context = Context("body")
    validated = validate(raw, context, None if former is None else former.saved.brought)
    settings, errors, warnings, expansion = validated
    findings = [*errors, *(Finding(*each) for each in chain(text_errors(raw), checks.limit_errors(raw, in_flight)))]
    stored = frozenset[str]() if former is None else former.secrets
    if settings is None:
        secrets = [*secrets_in(raw)]
        rest = validate_rest(validated, context)
        if rest is not None:
            entered = _entered(rest, {each.id: each.raw for each in secrets if isinstance(each.raw, Entered)})
            findings += map(expansion.placed, _reasons(rest, entered, now))
        return Assessment(None, _errors(findings, _id_errors(secrets, stored)))
    ids = secret_ids(settings)
    found = [each for each in secrets_in(raw) if each.id in ids]
    entered = _entered(settings, {each.id: each.raw for each in found if isinstance(each.raw, Entered)})
    findings += map(expansion.placed, _reasons(settings, entered, now))
    wrong_ids = [*_id_errors(found, stored)]
    wrong = _errors(findings, wrong_ids)
    written = as_kept(raw, ids)
    purpose = purpose_of(written, written if expansion.table is raw else as_kept(expansion.table, ids), settings)
    # The place of a secret that is used twice is not known.
    kept = [] if wrong_ids else [each for each in found if each.id in stored]
    reasons = _changes(former, purpose, [each.id for each in kept])
    again = tuple(DocumentError(pointer(each.place), reasons[each.id]) for each in kept if each.id in reasons)
    said = tuple(_said(warnings))
    if wrong or again:
        return Assessment(settings, wrong, said, entered, again)
    draft = Draft(Saved(written, expansion.brought), settings, purpose, entered, tuple(each.id for each in kept), said)
    return Assessment(settings, (), said, entered, (), draft)


def _id_errors(secrets: Iterable[SecretAt], stored: frozenset[str]) -> Iterator[DocumentError]:
    """Find IDs of secrets that are not stored, or used twice. An ID may be any text that was sent: do not repeat it."""
    used: set[str] = set()
    for each in secrets:
        if each.id in used:
            yield DocumentError(pointer(each.place), f"a stored secret is used once: {SEND_VALUE}")
        elif not isinstance(each.raw, Entered) and each.id not in stored:
            yield DocumentError(pointer(each.place), f"no secret with this id is stored here: {SEND_VALUE}")
        used.add(each.id)


def _changes(former: PreviousIntegration | None, purpose: Purpose, kept: list[str]) -> Mapping[str, str]:
    """Return why kept secrets must be entered again, by ID."""
    if former is None or not kept:
        return {}
    if former.purpose is None:
        return dict.fromkeys(kept, "what is stored is not valid any more")
    return changes_of(former.purpose, purpose, kept)


def text_errors(raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Texts for people that are longer than lists of stored documents can show."""
    for key, longest in (("title", MAX_TITLE_LENGTH), ("description", MAX_DESCRIPTION_LENGTH)):
        text = raw.get(key)
        if isinstance(text, str) and len(text) > longest:
            yield (key,), f"must have at most {longest} characters"
    tags = raw.get("tags")
    if isinstance(tags, list) and (
        len(tags) > MAX_TAGS or any(isinstance(each, str) and len(each) > MAX_TAG_LENGTH for each in tags)
    ):
        yield ("tags",), f"must be at most {MAX_TAGS} texts, each of at most {MAX_TAG_LENGTH} characters"


def _reasons(settings: IntegrationSettings, entered: Mapping[str, str], now: float) -> Iterator[Finding]:
    """What is wrong with the values that were entered, as far as those that are kept need not be known."""
    reader = EnteredReader(entered)
    _, reasons = read_parts(settings, reader, {})
    loader = build_certificate_loader(settings, reader, now)
    if loader is not None and loader.unreadable is not None:
        reasons = (*reasons, *loader.unreadable.reasons)
    # What is kept is not known here, nor what stands for a secret that is missing, and what a URL leads to only once it
    # is fetched.
    unknown = {
        tuple(map(str, place))
        for place, each in references_in(settings)
        if each.source not in WRITTEN and (each.source == "stored_url" or each.value not in entered)
    }
    for place, reason in reasons:
        if place not in unknown:
            yield Finding(place, reason)
    if settings.source_address is not None and not is_local(settings.source_address):
        yield Finding(("source_address",), ABSENT)


def _entered(settings: IntegrationSettings, secrets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the values to seal, by ID. They are valid."""
    return {
        each.value: str(raw["url"]) if each.source == "stored_url" else cleaned(each, raw["value"])
        for _, each in references_in(settings)
        if is_stored(each) and (raw := secrets.get(each.value)) is not None
    }


class EnteredReader(ReferenceReader):
    """Reads what was entered, by ID; what is kept it does not know."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __call__(self, reference: Reference) -> str:
        """The value. Raises ValueError."""
        if reference.source in WRITTEN:
            return reference.value
        if reference.value not in self._values:
            raise ValueError("a stored secret is not used for a draft: send it")
        return self._values[reference.value]


def invalid(findings: Iterable[Finding]) -> Invalid:
    """Refuse a document with these errors."""
    return Invalid(_errors(findings))


def _errors(findings: Iterable[Finding], further: Iterable[DocumentError] = ()) -> tuple[DocumentError, ...]:
    """Return the first errors, each once. If there are more, the last one says so."""
    found: dict[DocumentError, None] = {}
    for each in chain(_said(findings), further):
        found[each] = None
        if len(found) > MAX_ERRORS:
            found.popitem()
            found[_MORE] = None
            break
    return tuple(found)


_MORE: Final = DocumentError("", MORE_ERRORS)


def _said(findings: Iterable[Finding]) -> Iterator[DocumentError]:
    return (DocumentError(pointer(each.place), each.message) for each in findings)
