"""The row that a document is saved in, whoever saves it: the API, or a command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sidekey.settings.stored.document import MalformedError, pointer
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


def differing(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """The pointers of what differs between two documents, as deep as both are objects."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differing(before.get(key), after.get(key), f"{where}{pointer((key,))}")
    elif before != after:
        yield where
