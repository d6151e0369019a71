"""The row that a document is saved in, whoever saves it: the API, or a command."""

from __future__ import annotations

from typing import NamedTuple

from sidekey.settings.stored.document import MalformedError, differing
from sidekey.settings.stored.opening import Vault, sealed_fields
from sidekey.settings.stored.saving import Draft, Former
from sidekey.store.records import IntegrationRow, new_row


def former_of(row: IntegrationRow | None) -> Former | None:
    """What is stored in a row, as a change sees it; None where nothing of it is to be relied upon."""
    if row is None or row.state != "ok":
        return None
    try:
        return Former.load(row.document, row.secrets)
    except MalformedError:
        return None


class Made(NamedTuple):
    """A row that is not saved yet, and the pointers of what it changes: none, where it is what is saved."""

    row: IntegrationRow
    fields: tuple[str, ...]


def saved_row(
    vault: Vault,
    name: str,
    draft: Draft,
    before: IntegrationRow | None,
    former: Former | None,
    *,
    by: str,
    now: int,
) -> Made:
    """The row of a draft, in place of the one before.

    `former` is `former_of` the row before. The version is for the store to count.
    """
    lasting = new_row() if before is None else before.row
    intact = before is not None and before.state == "ok"
    secrets = sealed_fields(
        vault,
        lasting,
        name,
        draft,
        before.secrets if before is not None and intact else {},
        by=by,
        now=now,
    )
    row = IntegrationRow(
        row=lasting,
        id=name,
        document=draft.saved.text(),
        secrets=secrets,
        created_at=before.created_at if before is not None and intact else now,
        updated_at=now,
        updated_by=by,
        hidden=before is not None and before.hidden,
    )
    changed = {*differing({} if former is None else former.saved.written, draft.saved.written)}
    changed |= {*draft.entered, *draft.removed}
    if not changed and not intact:
        changed = {""}
    return Made(row, tuple(sorted(changed)))
