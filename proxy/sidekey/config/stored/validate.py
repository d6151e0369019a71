"""Validate documents of the API before they are saved, without opening a stored secret.

A document has a new secret as `{value: ...}`. `{set: true, id: ...}` keeps a stored one if its purpose is unchanged:
its location in the document, and the destinations that may receive it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from sidekey.config import checks
from sidekey.config.addresses import ABSENT, is_local
from sidekey.config.build.certificates import build_certificate_loader
from sidekey.config.build.integration import UnreadableValue, resolve_policy
from sidekey.config.errors import MAX_ERRORS, MORE_ERRORS, Finding, Loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.secrets import ReferenceReader
from sidekey.config.stored.document import (
    SavedDocument,
    SecretAt,
    merge_patch,
    pointer,
    secrets_in,
    split_certificates,
    with_new_ids,
    with_secret_ids,
)
from sidekey.config.stored.secrets import build_purpose, purpose_changes, secret_ids
from sidekey.config.validate import validate, validate_saved, validate_valid_sections
from sidekey.credentials.context import Context
from sidekey.credentials.destination import is_stored, references_in
from sidekey.credentials.fields import SEND_VALUE, WRITTEN, Entered, Reference, clean_value
from sidekey.credentials.secret_holder import SecretHolder
from sidekey.store.records import IntegrationRow
from sidekey.store.sealing import Purpose

MAX_TITLE_LENGTH: Final = 200
MAX_DESCRIPTION_LENGTH: Final = 2000
MAX_TAGS: Final = 50
MAX_TAG_LENGTH: Final = 100
"""Limits of a stored integration or preset. They bound a list page, which shows fifty items."""


class DocumentError(NamedTuple):
    """An error at a JSON pointer of the submitted document. `detail` states the rule, and never repeats a value."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class InvalidPreset:
    """A refused document of a preset. `errors` has up to `MAX_ERRORS`."""

    errors: tuple[DocumentError, ...]


@dataclass(frozen=True, slots=True)
class Draft(SecretHolder):
    """A document that may be saved.

    `entered` has the values to seal, by ID. `kept` has the IDs of stored secrets that stay sealed.
    """

    saved: SavedDocument
    settings: IntegrationSettings
    purpose: Purpose
    entered: Mapping[str, str] = field(repr=False)
    kept: tuple[str, ...]
    warnings: tuple[DocumentError, ...]


@dataclass(frozen=True, slots=True)
class PreviousIntegration:
    """The stored integration that a document replaces: its document, the IDs of its secrets, and their purpose.

    `purpose` is None if the stored document is no longer valid.
    """

    saved: SavedDocument
    secrets: frozenset[str]
    purpose: Purpose | None

    @classmethod
    def load(cls, row: IntegrationRow) -> PreviousIntegration:
        """Load a row. Raises MalformedError."""
        saved = SavedDocument.load(row.document)
        settings, errors, _, expansion = validate_saved(saved.content, saved.from_profile)
        if settings is None or errors:
            return cls(saved, frozenset(row.secrets), None)
        purpose = build_purpose(saved.content, expansion.table, settings)
        return cls(saved, frozenset(row.secrets.keys() & purpose.locations.keys()), purpose)

    def apply_patch(self, patch: Mapping[str, Any]) -> Any:
        """Return the document after a merge patch (RFC 7396)."""
        return merge_patch(self.saved.content, patch)


@dataclass(frozen=True, slots=True)
class Assessment(SecretHolder):
    """The result of `assess`.

    `settings` is None if the models refuse the document; with `errors`, nothing may be built from the settings.
    `entered` has the new secret values, by ID, and `reenter` the stored secrets to enter again, with the reason.
    Only a document that may be saved has a `draft`.
    """

    settings: IntegrationSettings | None
    errors: tuple[DocumentError, ...]
    warnings: tuple[DocumentError, ...] = ()
    entered: Mapping[str, str] = field(default_factory=dict, repr=False)
    reenter: tuple[DocumentError, ...] = ()
    draft: Draft | None = None


def assess(
    document: Mapping[str, Any], previous: PreviousIntegration | None, *, in_flight: int, now: float
) -> Assessment:
    """Validate a document that replaces the `previous` one, if any.

    `in_flight` is the process's limit of requests in flight, `now` in seconds since the epoch.
    """
    raw = with_new_ids(split_certificates(document))
    context = Context("body")
    validated = validate(raw, context, None if previous is None else previous.saved.from_profile)
    settings, errors, warnings, expansion = validated
    findings = [*errors, *(Finding(*error) for error in chain(text_errors(raw), checks.limit_errors(raw, in_flight)))]
    stored_ids = frozenset[str]() if previous is None else previous.secrets
    if settings is None:
        secrets = [*secrets_in(raw)]
        rest = validate_valid_sections(validated, context)
        if rest is not None:
            entered = _entered_values(
                rest, {secret.id: secret.raw for secret in secrets if isinstance(secret.raw, Entered)}
            )
            findings += map(expansion.locate, _secret_errors(rest, entered, now))
        return Assessment(None, _truncate(findings, _id_errors(secrets, stored_ids)))
    ids = secret_ids(settings)
    used = [secret for secret in secrets_in(raw) if secret.id in ids]
    entered = _entered_values(settings, {secret.id: secret.raw for secret in used if isinstance(secret.raw, Entered)})
    findings += map(expansion.locate, _secret_errors(settings, entered, now))
    wrong_ids = [*_id_errors(used, stored_ids)]
    document_errors = _truncate(findings, wrong_ids)
    content = with_secret_ids(raw, ids)
    purpose = build_purpose(
        content, content if expansion.table is raw else with_secret_ids(expansion.table, ids), settings
    )
    # Do not compare the locations of secrets if one is used twice: it has no single location.
    kept = [] if wrong_ids else [secret for secret in used if secret.id in stored_ids]
    reasons = _reentry_reasons(previous, purpose, [secret.id for secret in kept])
    reenter = tuple(DocumentError(pointer(secret.loc), reasons[secret.id]) for secret in kept if secret.id in reasons)
    document_warnings = tuple(_document_errors(warnings))
    if document_errors or reenter:
        return Assessment(settings, document_errors, document_warnings, entered, reenter)
    draft = Draft(
        SavedDocument(content, expansion.additions),
        settings,
        purpose,
        entered,
        tuple(secret.id for secret in kept),
        document_warnings,
    )
    return Assessment(settings, (), document_warnings, entered, (), draft)


def _id_errors(secrets: Iterable[SecretAt], stored_ids: frozenset[str]) -> Iterator[DocumentError]:
    """Yield errors for IDs that are not stored, or used twice. An ID may be any text, so no error repeats it."""
    used: set[str] = set()
    for secret in secrets:
        if secret.id in used:
            yield DocumentError(pointer(secret.loc), f"a stored secret is used once: {SEND_VALUE}")
        elif not isinstance(secret.raw, Entered) and secret.id not in stored_ids:
            yield DocumentError(pointer(secret.loc), f"no secret with this id is stored here: {SEND_VALUE}")
        used.add(secret.id)


def _reentry_reasons(previous: PreviousIntegration | None, purpose: Purpose, kept: list[str]) -> Mapping[str, str]:
    """Return why stored secrets must be entered again, by ID."""
    if previous is None or not kept:
        return {}
    if previous.purpose is None:
        return dict.fromkeys(kept, "the stored document is no longer valid")
    return purpose_changes(previous.purpose, purpose, kept)


def text_errors(raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Yield errors for a title, a description or tags above the limits."""
    for key, max_length in (("title", MAX_TITLE_LENGTH), ("description", MAX_DESCRIPTION_LENGTH)):
        text = raw.get(key)
        if isinstance(text, str) and len(text) > max_length:
            yield (key,), f"must have at most {max_length} characters"
    tags = raw.get("tags")
    if isinstance(tags, list) and (
        len(tags) > MAX_TAGS or any(isinstance(tag, str) and len(tag) > MAX_TAG_LENGTH for tag in tags)
    ):
        yield ("tags",), f"must be at most {MAX_TAGS} texts, each of at most {MAX_TAG_LENGTH} characters"


def _secret_errors(settings: IntegrationSettings, entered: Mapping[str, str], now: float) -> Iterator[Finding]:
    """Yield errors of newly entered secrets, and of targets and the source address.

    Skip checks that need stored secrets.
    """
    reader = EnteredReader(entered)
    resolved = resolve_policy(settings, reader)
    reasons: Iterable[UnreadableValue] = resolved.unreadable
    loader = build_certificate_loader(settings, reader, now)
    if loader is not None and loader.unreadable is not None:
        reasons = (*reasons, *loader.unreadable.reasons)
    yield from (Finding(*error) for error in checks.uncovered_prefixes(resolved.policy))
    # Stored secrets, dummies for missing secrets, and the content of URLs are not known here.
    unknown = {
        tuple(map(str, loc))
        for loc, reference in references_in(settings)
        if reference.source not in WRITTEN and (reference.source == "stored_url" or reference.value not in entered)
    }
    for loc, reason in reasons:
        if loc not in unknown:
            yield Finding(loc, reason)
    if settings.source_address is not None and not is_local(settings.source_address):
        yield Finding(("source_address",), ABSENT)


def _entered_values(settings: IntegrationSettings, secrets: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the values to seal, by secret ID. `secrets` are the new ones as sent, which the models have validated."""
    return {
        reference.value: str(raw["url"]) if reference.source == "stored_url" else clean_value(reference, raw["value"])
        for _, reference in references_in(settings)
        if is_stored(reference) and (raw := secrets.get(reference.value)) is not None
    }


class EnteredReader(ReferenceReader):
    """Reads newly entered secrets, by ID. Stored ones are not available."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __call__(self, reference: Reference) -> str:
        """Return the value. Raises ValueError."""
        if reference.source in WRITTEN:
            return reference.value
        if reference.value not in self._values:
            raise ValueError("a stored secret is not used for a draft: send it")
        return self._values[reference.value]


def refuse_preset(findings: Iterable[Finding]) -> InvalidPreset:
    """Build the refusal of a preset's document with these errors."""
    return InvalidPreset(_truncate(findings))


def _truncate(findings: Iterable[Finding], extra: Iterable[DocumentError] = ()) -> tuple[DocumentError, ...]:
    """Return the first `MAX_ERRORS` errors without duplicates. If there are more, `_MORE` is the last one."""
    errors: dict[DocumentError, None] = {}
    for error in chain(_document_errors(findings), extra):
        errors[error] = None
        if len(errors) > MAX_ERRORS:
            errors.popitem()
            errors[_MORE] = None
            break
    return tuple(errors)


_MORE: Final = DocumentError("", MORE_ERRORS)


def _document_errors(findings: Iterable[Finding]) -> Iterator[DocumentError]:
    return (DocumentError(pointer(finding.document_loc), finding.message) for finding in findings)
