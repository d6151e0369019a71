"""Convert between documents and rows: the rows that the API and commands save, and the documents that the API sends."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sidekey.config.errors import Loc
from sidekey.config.stored.document import (
    MalformedError,
    SavedDocument,
    changed_pointers,
    pointer,
    secrets_in,
    with_values,
)
from sidekey.config.stored.presets import PresetDraft, load_document
from sidekey.config.stored.secrets import SealingKeys, StoredReader
from sidekey.config.stored.validate import Draft, PreviousIntegration
from sidekey.credentials.fields import Reference
from sidekey.store.records import CallerRow, DocumentRow, IntegrationRow, PresetRow, Record, SealedField, new_row_id
from sidekey.store.sealing import seal

R = TypeVar("R", bound=DocumentRow)
T = TypeVar("T", bound=Record)


def previous_integration(row: IntegrationRow | None) -> PreviousIntegration | None:
    """Load the integration that a change replaces, or return None if its row is missing, altered or malformed."""
    if row is None or not row.verified:
        return None
    try:
        return PreviousIntegration.load(row)
    except MalformedError:
        return None


class NewRow(NamedTuple, Generic[T]):
    """A row to save. `token` is the token of a new caller.

    `fields` are the JSON pointers that the row changes, empty if it changes nothing. "" stands for the whole document.
    """

    row: T
    fields: tuple[str, ...]
    token: str = ""


def build_integration_row(
    sealing_keys: SealingKeys,
    name: str,
    draft: Draft,
    previous_row: IntegrationRow | None,
    previous: PreviousIntegration | None,
    *,
    by: str,
    now: int,
) -> NewRow[IntegrationRow]:
    """Build the row of a draft, which replaces `previous_row`, if any. Seal the new secrets.

    `previous` is the `previous_integration` of that row. The store sets the version.
    """
    row = _build_row(IntegrationRow, name, previous_row, draft.saved.text(), by=by, now=now)
    secrets = {} if previous_row is None else {secret: previous_row.secrets[secret] for secret in draft.kept}
    for secret, text in draft.entered.items():
        # New secrets are sealed for the first destination.
        binding = draft.purpose.bindings(sealing_keys.store, row.row_id, name, secret)[0]
        secrets[secret] = SealedField(seal(sealing_keys.ring, text, binding), now, by)
    return _with_changes(replace(row, secrets=secrets), previous_row, _draft_changes(previous, draft))


def _draft_changes(previous: PreviousIntegration | None, draft: Draft) -> set[str]:
    """Return the pointers that a draft changes, including those of new and removed secrets."""
    saved = SavedDocument({}) if previous is None else previous.saved
    before = _secret_locs(saved, frozenset() if previous is None else previous.secrets)
    after = _secret_locs(draft.saved, draft.purpose.locations.keys())
    documents = (
        with_values(document.content, {loc: secret for secret, loc in locs.items()})
        for document, locs in ((saved, before), (draft.saved, after))
    )
    added_or_removed = before.keys() ^ after.keys()
    secret_pointers = (pointer(after.get(secret) or before[secret]) for secret in added_or_removed)
    return {*changed_pointers(*documents), *secret_pointers}


def _secret_locs(saved: SavedDocument, secrets: Set[str]) -> dict[str, Loc]:
    return {secret.id: secret.loc for secret in secrets_in(saved.content) if secret.id in secrets}


def has_content_of(sealing_keys: SealingKeys, row: IntegrationRow, draft: Draft) -> bool:
    """Return True if a row has the document and secret values of a draft, under other secret IDs."""
    stored = previous_integration(row)
    if stored is None or stored.purpose is None:
        return False
    before, after = (
        _secret_locs(stored.saved, stored.secrets),
        _secret_locs(draft.saved, draft.purpose.locations.keys()),
    )
    if _text_without_ids(stored.saved, before) != _text_without_ids(draft.saved, after):
        return False
    reader = StoredReader(sealing_keys, row, stored.purpose)
    try:
        # The documents are equal, so `before` and `after` have the secrets in the same order.
        return all(
            reader(Reference("stored", old)) == draft.entered[new] for old, new in zip(before, after, strict=True)
        )
    except ValueError:
        # A secret that does not open must be saved again.
        return False


def _text_without_ids(saved: SavedDocument, locs: Mapping[str, Loc]) -> str:
    """Serialize a saved document without the IDs of its secrets."""
    return replace(saved, content=with_values(saved.content, {loc: {"set": True} for loc in locs.values()})).text()


def build_preset_row(
    name: str, draft: PresetDraft, previous: PresetRow | None, *, by: str, now: int
) -> NewRow[PresetRow]:
    """Build the row of a preset, which replaces the `previous` row, if any. The store sets the version."""
    row = _build_row(PresetRow, name, previous, draft.text, by=by, now=now)
    try:
        previous_document = {} if previous is None else load_document(previous)
    except MalformedError:
        previous_document = {}
    changed = {*changed_pointers(previous_document, load_document(row))}
    if not changed and previous is not None and previous.document != row.document:
        # Pointers do not show the order of keys, but the preset sends its body in this order.
        changed = {""}
    return _with_changes(row, previous, changed)


def caller_fields(row: CallerRow, previous: CallerRow | None) -> tuple[str, ...]:
    """Return the pointers of the permissions that a caller's row changes, and `token` if its token changes."""
    changed = tuple(changed_pointers({} if previous is None else _permissions(previous), _permissions(row)))
    has_same_token = previous is not None and previous.token_sha256 == row.token_sha256
    return changed if has_same_token else (*changed, "token")


def _permissions(row: CallerRow) -> dict[str, Any]:
    # A caller may use no preset unless its document has `presets`.
    presets = "*" if row.presets is None else row.presets or None
    return {"integrations": "*" if row.integrations is None else row.integrations, "presets": presets}


def _build_row(row_class: type[R], name: str, previous: R | None, document: str, *, by: str, now: int) -> R:
    """Build a row that keeps the permanent row ID and the creation time of the previous one, if any."""
    return row_class(
        row_id=new_row_id() if previous is None else previous.row_id,
        id=name,
        document=document,
        created_at=previous.created_at if previous is not None and previous.verified else now,
        updated_at=now,
        updated_by=by,
    )


def _with_changes(row: R, previous: R | None, changed: set[str]) -> NewRow[R]:
    """Pair a row with its changed pointers. An altered row always counts as changed, so that it is written again."""
    if not changed and (previous is None or not previous.verified):
        changed = {""}
    return NewRow(row, tuple(sorted(changed)))


_LAST_SECOND: Final = 253_402_300_799
"""The last second of the year 9999, the maximum of `datetime`."""


def document_for_api(row: IntegrationRow) -> Any:
    """Return the document as the API sends it. A client can send it back unchanged. Raises MalformedError."""
    document = SavedDocument.load(row.document).content
    values = {
        secret.loc: {"set": True, "id": secret.id, "set_at": format_time(sealed.set_at), "set_by": sealed.set_by}
        for secret in secrets_in(document)
        if (sealed := row.secrets.get(secret.id)) is not None
    }
    return with_values(document, values)


def format_time(seconds: float) -> str:
    """Format a time as RFC 3339, in seconds and UTC. Clamp it, because the database may hold any number."""
    return f"{datetime.fromtimestamp(min(max(0, seconds), _LAST_SECOND), UTC):%Y-%m-%dT%H:%M:%SZ}"
