"""What becomes of a stored integration when its document is sent: pure, and no secret is opened for it.

Secrets are `{value: ...}` on their way in, and read as `{set: true, ...}`; the same object sent back keeps what is
stored. A secret is kept only where it may go nowhere that it was not entered for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from sidekey.credentials.base import Sealed
from sidekey.credentials.context import Context
from sidekey.credentials.destination import Json, accepted, destination_of, halves_in, references_in
from sidekey.credentials.fields import SEND_VALUE, WRITTEN, Reference, cleaned, is_kept
from sidekey.settings import checks
from sidekey.settings.certificates import build_certificate_loader
from sidekey.settings.config_errors import MORE_ERRORS, MOST_ERRORS, Finding, Loc
from sidekey.settings.local_address import ABSENT, is_local
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.parts import read_parts
from sidekey.settings.secrets import ReferenceReader
from sidekey.settings.stored.document import (
    KEPT,
    Listed,
    MalformedError,
    Saved,
    elements_of,
    found_at,
    kept_as,
    listed_in,
    located,
    merge_patch,
    pointer,
    replaced,
    split_certificates,
)
from sidekey.settings.validated import open_secrets_in, validate, validate_saved
from sidekey.store.canonical import canonical

LONGEST_DESCRIPTION: Final = 2000
MOST_TAGS: Final = 50
LONGEST_TAG: Final = 100
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
class Reenter:
    """The secrets at these pointers must be sent again: their destination or their other half has changed."""

    pointers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft(Sealed):
    """A document that may be saved.

    `entered` are the values to seal for `destination`, by their pointers; `kept` stay sealed as they are, `removed` are
    no longer stored.
    """

    saved: Saved
    settings: IntegrationSettings
    destination: Mapping[str, Json]
    entered: Mapping[str, str] = field(repr=False)
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    warnings: tuple[DocumentError, ...]


@dataclass(frozen=True, slots=True)
class Former:
    """What is stored now: its document, the pointers of its secrets, and its settings where it is valid.

    `in_the_open` are the pointers of secrets that an earlier version saved as plain text.
    """

    saved: Saved
    secrets: frozenset[str]
    settings: IntegrationSettings | None
    in_the_open: frozenset[str] = frozenset()

    @classmethod
    def load(cls, document: str, secrets: Iterable[str]) -> Former:
        """By a row's document and the pointers of its secrets. Raises MalformedError."""
        saved = Saved.load(document)
        validated = validate_saved(saved.written, saved.brought)
        settings = validated.settings
        plain = () if settings is None else open_secrets_in(settings, validated.expansion)
        return cls(
            saved,
            frozenset(secrets),
            None if validated.errors else settings,
            frozenset(pointer(validated.expansion.written(place)) for place in plain),
        )

    def references(self) -> tuple[Reference, ...]:
        """Those to its secrets, where it is valid."""
        return () if self.settings is None else tuple(secrets_of(self.settings).values())

    def certificates(self) -> dict[str, Any]:
        """The certificates as they are written, by their pointers: they read as what is in them."""
        if self.settings is None:
            # What its keys mean is not known, such as those of a kind that is gone; the CA beside them is public.
            keys = self.saved.written.items()
            return {where: each for key, raw in keys if key != "trusted_ca" for where, each in _pem_in(raw, key)}
        public = [
            pointer(place)
            for place, each in references_in(self.settings)
            if each.source == "inline" or (each.source == "text" and each.pem)
        ]
        return {where: found_at(self.saved.written, where) for where in public}

    def patched(self, patch: Mapping[str, Any]) -> Any:
        """The document after a merge patch (RFC 7396), which keeps what it leaves out."""
        return merge_patch(replaced(self.saved.written, dict.fromkeys(self.certificates(), KEPT)), patch)


def _pem_in(raw: Any, *place: str | int) -> Iterator[tuple[str, Any]]:
    """The certificates below a place of a document, as they are written: `{inline: PEM}`, or the text itself."""
    text = raw.get("inline") if isinstance(raw, Mapping) else raw
    if isinstance(text, str) and "-----BEGIN CERTIFICATE-----" in text:
        yield pointer(place), raw
    elif isinstance(raw, Mapping):
        for key, each in raw.items():
            yield from _pem_in(each, *place, key)
    elif isinstance(raw, list):
        for index, each in enumerate(raw):
            yield from _pem_in(each, *place, index)


def secrets_of(settings: IntegrationSettings) -> dict[Loc, Reference]:
    """The references to what is stored sealed, by their places."""
    return {place: each for place, each in references_in(settings) if each.source in ("stored", "stored_url")}


@dataclass(frozen=True, slots=True)
class Assessment(Sealed):
    """The result of validating a document that is to replace what is stored.

    `settings` is None if the models refuse the document; if there are errors, nothing may be built from it. `entered`
    are the values that came with it, by pointers. `again` are the pointers of secrets to enter again. Only a document
    that may be saved has a `draft`.
    """

    settings: IntegrationSettings | None
    errors: tuple[DocumentError, ...]
    warnings: tuple[DocumentError, ...] = ()
    entered: Mapping[str, str] = field(default_factory=dict, repr=False)
    again: tuple[str, ...] = ()
    draft: Draft | None = None


def prepare(
    given: Mapping[str, Any], former: Former | None, *, in_flight: int, now: float
) -> Draft | Invalid | Reenter:
    """Judge a document that is to replace what is stored; None: nothing is.

    `in_flight` is the process's limit of requests in flight, `now` in seconds since the epoch.
    """
    found = assess(given, former, in_flight=in_flight, now=now)
    if found.draft is None:
        return Invalid(found.errors) if found.errors else Reenter(found.again)
    return found.draft


def assess(given: Mapping[str, Any], former: Former | None, *, in_flight: int, now: float) -> Assessment:
    """Validate a document as `prepare` does, and keep all results if it may not be saved."""
    given = split_certificates(given)
    try:
        raw = located(given, None if former is None else former.certificates())
    except MalformedError as error:
        return Assessment(None, (DocumentError("", str(error)),))
    brought = None if former is None else former.saved.brought
    settings, errors, warnings, expansion = validate(raw, Context("body"), brought)
    further = chain(text_errors(raw), checks.limit_errors(raw, in_flight))
    findings = [*errors, *(Finding(*each) for each in further)]
    rows = tuple(_row_errors(raw, frozenset() if former is None else former.secrets))
    if settings is None:
        return Assessment(None, _errors(findings, rows))
    # A secret with the pointer of the whole document replaces a profile's secret that is missing or wrong.
    secrets = [each for each in secrets_of(settings).values() if each.value]
    listed = {each.pointer: each for each in listed_in(raw)}
    sent = {each.value: found_at(raw, _where(listed, each.value)) for each in secrets}
    kept = {where for where, value in sent.items() if isinstance(value, Mapping) and is_kept(value)}
    entered = {each.value: _text(each, sent[each.value]) for each in secrets if each.value not in kept}
    findings += map(expansion.placed, _reasons(settings, entered, now))
    absent = sorted(kept - listed.keys() - (frozenset() if former is None else former.secrets))
    wrong = _errors(
        findings, (*rows, *(DocumentError(where, "no secret is stored here: send one") for where in absent))
    )
    saved = Saved(replaced(raw, {where: kept_as(listed.get(where)) for where in sent}), expansion.brought)
    moved = _misplaced(raw, former, kept) | _again(given, settings, former, kept)
    again = tuple(sorted(_where(listed, each) for each in moved))
    said = tuple(_said(warnings))
    if wrong or again:
        return Assessment(settings, wrong, said, entered, again)
    draft = Draft(
        saved=saved,
        settings=settings,
        destination=destination_of(settings),
        entered=entered,
        kept=tuple(sorted(kept)),
        removed=() if former is None else tuple(sorted(former.secrets - sent.keys())),
        warnings=said,
    )
    return Assessment(settings, (), said, entered, (), draft)


def _row_errors(raw: Mapping[str, Any], stored: frozenset[str]) -> Iterator[DocumentError]:
    """What is wrong with the row IDs of secrets in lists; `stored` are the pointers of what may be kept."""
    taken: set[str] = set()
    for each in listed_in(raw):
        if each.pointer in taken:
            yield DocumentError(each.where, f"{_named(each)} must not be kept twice: {SEND_VALUE}, or leave it out")
        elif is_kept(found_at(raw, each.where)) and each.pointer not in stored:
            yield DocumentError(each.where, f"{_named(each)} is not stored in this list: {SEND_VALUE}, or leave it out")
        taken.add(each.pointer)


def _named(listed: Listed) -> str:
    """What an error calls a secret that is kept. Its row ID may be any text that was sent, and is not repeated."""
    return "the secret without a row ID" if listed.row is None else "the secret with this row ID"


def _where(listed: Mapping[str, Listed], lasting: str) -> str:
    """Where the secret with a lasting pointer stands in the document that was sent."""
    found = listed.get(lasting)
    return lasting if found is None else found.where


def text_errors(raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Texts for people that are longer than lists of stored documents can show."""
    description, tags = raw.get("description"), raw.get("tags")
    if isinstance(description, str) and len(description) > LONGEST_DESCRIPTION:
        yield ("description",), f"must have at most {LONGEST_DESCRIPTION} characters"
    if isinstance(tags, list) and (
        len(tags) > MOST_TAGS or any(isinstance(each, str) and len(each) > LONGEST_TAG for each in tags)
    ):
        yield ("tags",), f"must be at most {MOST_TAGS} texts, each of at most {LONGEST_TAG} characters"


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


def _again(given: Mapping[str, Any], settings: IntegrationSettings, former: Former | None, kept: set[str]) -> set[str]:
    """Return the pointers of the stored secrets that the document keeps, but may not keep."""
    if former is None:
        return set()
    if kept and (former.settings is None or not _may_keep(former.settings, settings)):
        return kept
    before = {} if former.settings is None else dict(references_in(former.settings))
    now = dict(references_in(settings))
    again: set[str] = set()
    for place, secret in halves_in(settings):
        public, private = now[place], now.get((*place[:-1], secret))
        if private is None:
            continue
        written = found_at(given, pointer(place))
        public_kept = public.value in kept or (isinstance(written, Mapping) and is_kept(written))
        changed = public.source == "stored_url" or public != before.get(place)
        if private.value in kept and not public_kept and changed:
            again.add(private.value)
        if public_kept and private.value not in kept:
            again.add(public.value if public.value in kept else pointer(place))
    return again


def _misplaced(raw: Any, former: Former | None, kept: set[str]) -> set[str]:
    """What the document keeps beside other public values of a list than those that it was entered beside.

    Where secrets of two mappings in a list change places, the destination is the same: what is public is.
    """
    before = {} if former is None else dict(elements_of(former.saved.written))
    return {where for where, place in elements_of(raw) if where in kept and before.get(where, place) != place}


def _may_keep(former: IntegrationSettings, settings: IntegrationSettings) -> bool:
    """Whether what was entered for the former settings opens for these: both are compared as they are sealed for."""
    return canonical(destination_of(former)) in map(canonical, accepted(settings))


def _text(reference: Reference, sent: Any) -> str:
    """What is sealed of a value that was sent and is valid."""
    return str(sent) if reference.source == "stored_url" else cleaned(reference, sent["value"])


class EnteredReader(ReferenceReader):
    """Reads what was entered, by pointers; what is kept it does not know."""

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

    def raw(self, reference: Reference, largest: int) -> bytes:
        """The bytes of the value. Raises ValueError."""
        del largest
        return self(reference).encode()


def invalid(findings: Iterable[Finding], further: Iterable[DocumentError] = ()) -> Invalid:
    """A document that is refused for these, each told once."""
    return Invalid(_errors(findings, further))


def _errors(findings: Iterable[Finding], further: Iterable[DocumentError] = ()) -> tuple[DocumentError, ...]:
    """Return the first errors, each once. If there are more, the last one says so."""
    found: dict[DocumentError, None] = {}
    for each in chain(_said(findings), further):
        found[each] = None
        if len(found) > MOST_ERRORS:
            found.popitem()
            found[_MORE] = None
            break
    return tuple(found)


_MORE: Final = DocumentError("", MORE_ERRORS)


def _said(findings: Iterable[Finding]) -> Iterator[DocumentError]:
    return (DocumentError(pointer(each.place), each.message) for each in findings)
