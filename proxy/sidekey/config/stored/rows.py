"""The row that a document is saved in, whoever saves it: the API, or a command."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sidekey.config.stored.document import MalformedError, Place, Saved, differing, pointer, replaced, secrets_in
from sidekey.config.stored.presets import PresetDraft, document_of
from sidekey.config.stored.secrets import SealingKeys, StoredReader
from sidekey.config.stored.validate import Draft, PreviousIntegration
from sidekey.credentials.fields import Reference
from sidekey.store.records import CallerRow, DocumentRow, IntegrationRow, PresetRow, Record, SealedField, new_row
from sidekey.store.sealing import seal

R = TypeVar("R", bound=DocumentRow)
T = TypeVar("T", bound=Record)


def previous_integration(row: IntegrationRow | None) -> PreviousIntegration | None:
    """What is stored in a row, as a change sees it; None where nothing of it is to be relied upon."""
    if row is None or not row.verified:
        return None
    try:
        return PreviousIntegration.load(row)
    except MalformedError:
        return None


class NewRow(NamedTuple, Generic[T]):
    """A row to save, and the pointers that it changes: none if it is the same. A new caller has a `token`."""

    row: T
    fields: tuple[str, ...]
    token: str = ""


def saved_row(
    vault: SealingKeys,
    name: str,
    draft: Draft,
    before: IntegrationRow | None,
    former: PreviousIntegration | None,
    *,
    by: str,
    now: int,
) -> NewRow[IntegrationRow]:
    """Build the row of a draft, in place of the one before. Seal what was entered.

    `former` is `former_of` the row before. The version is for the store to count.
    """
    row = _row(IntegrationRow, name, before, draft.saved.text(), by=by, now=now)
    secrets = {} if before is None else {secret: before.secrets[secret] for secret in draft.kept}
    for secret, text in draft.entered.items():
        binding = draft.purpose.bindings(vault.store, row.row, name, secret)[0]
        secrets[secret] = SealedField(seal(vault.ring, text, binding), now, by)
    return _made(replace(row, secrets=secrets), before, _changed(former, draft))


def _changed(former: PreviousIntegration | None, draft: Draft) -> set[str]:
    """Return the pointers of what a draft changes: those of each secret that it has new or no more among them."""
    saved = Saved({}) if former is None else former.saved
    before = _places(saved, frozenset() if former is None else former.secrets)
    after = _places(draft.saved, draft.purpose.places.keys())
    documents = (
        replaced(each.written, {place: secret for secret, place in places.items()})
        for each, places in ((saved, before), (draft.saved, after))
    )
    exchanged = before.keys() ^ after.keys()
    return {*differing(*documents), *(pointer(after.get(each) or before[each]) for each in exchanged)}


def _places(saved: Saved, secrets: Set[str]) -> dict[str, Place]:
    return {each.id: each.place for each in secrets_in(saved.written) if each.id in secrets}


def is_saved(vault: SealingKeys, row: IntegrationRow, draft: Draft) -> bool:
    """Return True if a row has the document and the secrets of a draft, which are all new, under other IDs."""
    former = previous_integration(row)
    if former is None or former.purpose is None:
        return False
    before, after = _places(former.saved, former.secrets), _places(draft.saved, draft.purpose.places.keys())
    if _text(former.saved, before) != _text(draft.saved, after):
        return False
    reader = StoredReader(vault, row, former.purpose)
    try:
        return all(
            reader(Reference("stored", old)) == draft.entered[new] for old, new in zip(before, after, strict=True)
        )
    except ValueError:
        # One does not open: it is entered again.
        return False


def _text(saved: Saved, places: Mapping[str, Place]) -> str:
    """Return the text of a saved document without IDs."""
    return replace(saved, written=replaced(saved.written, {place: {"set": True} for place in places.values()})).text()


def saved_preset(name: str, draft: PresetDraft, before: PresetRow | None, *, by: str, now: int) -> NewRow[PresetRow]:
    """The row of a preset, in place of the one before. The version is for the store to count."""
    row = _row(PresetRow, name, before, draft.text, by=by, now=now)
    try:
        written = {} if before is None else document_of(before)
    except MalformedError:
        written = {}
    changed = {*differing(written, document_of(row))}
    if not changed and before is not None and before.document != row.document:
        # The order of a body's keys, or 1 in place of true: it is sent otherwise.
        changed = {""}
    return _made(row, before, changed)


def caller_fields(row: CallerRow, before: CallerRow | None) -> tuple[str, ...]:
    """Return the pointers of the permissions that a caller's row changes, then `token` if that is another one."""
    changed = tuple(differing({} if before is None else _permissions(before), _permissions(row)))
    same_token = before is not None and before.token_sha256 == row.token_sha256
    return changed if same_token else (*changed, "token")


def _permissions(row: CallerRow) -> dict[str, Any]:
    # A caller may use no preset unless its document has `presets`.
    presets = "*" if row.presets is None else row.presets or None
    return {"integrations": "*" if row.integrations is None else row.integrations, "presets": presets}


def _row(kind: type[R], name: str, before: R | None, document: str, *, by: str, now: int) -> R:
    """Build the row of a document, in place of the one before."""
    return kind(
        row=new_row() if before is None else before.row,
        id=name,
        document=document,
        created_at=before.created_at if before is not None and before.verified else now,
        updated_at=now,
        updated_by=by,
    )


def _made(row: R, before: R | None, changed: set[str]) -> NewRow[R]:
    """Pair a row with the pointers of what it changes; an unverified row is written in any case."""
    if not changed and (before is None or not before.verified):
        changed = {""}
    return NewRow(row, tuple(sorted(changed)))


_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999."""


def shown(row: IntegrationRow) -> Any:
    """Return the document as the API shows it; sent back unchanged, it keeps all. Raises MalformedError."""
    written = Saved.load(row.document).written
    values = {
        each.place: {"set": True, "id": each.id, "set_at": instant(sealed.set_at), "set_by": sealed.set_by}
        for each in secrets_in(written)
        if (sealed := row.secrets.get(each.id)) is not None
    }
    return replaced(written, values)


def instant(seconds: float) -> str:
    """Format a time as RFC 3339, in seconds and UTC. Others can write any number to the database."""
    return f"{datetime.fromtimestamp(min(max(0, seconds), _LAST_SECOND), UTC):%Y-%m-%dT%H:%M:%SZ}"
