"""Makes the row of an integration of the document that was sent, or says all that is wrong with it. In a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sidekey.admin.api.documents import ABOUT
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid
from sidekey.runtime.snapshot import Snapshot, Stored
from sidekey.settings.stored.document import MalformedError, pointer
from sidekey.settings.stored.opening import Vault, sealed_fields
from sidekey.settings.stored.overlaps import overlap_of
from sidekey.settings.stored.saving import Draft, Former, Invalid, Reenter, prepare
from sidekey.settings.stored.source import build_draft
from sidekey.store.records import IntegrationRow, new_row


def document_in(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What is a document of what was sent."""
    return {key: value for key, value in sent.items() if key not in ABOUT}


def draft_of(
    document: Mapping[str, Any], former: Former | None, snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> Draft:
    """A document that may be saved. Raises ApiProblem with all that is wrong with it, of which `wrong` is known."""
    found = prepare(document, former, in_flight=snapshot.limits.in_flight, now=time.time())
    errors = [*wrong, *(ItemError(*each) for each in (found.errors if isinstance(found, Invalid) else ()))]
    if errors or isinstance(found, Invalid):
        raise invalid(errors)
    if isinstance(found, Reenter):
        text = "must be sent again as {value: ...}: where it would go has changed, or what it belongs to"
        detail = "the destination of secrets has changed: enter them again, see errors"
        raise ApiProblem("reenter", detail, errors=[ItemError(each, text) for each in found.pointers])
    return found


class Made(NamedTuple):
    """A row that is not saved yet, and the pointers of what it changes: none, where it is what is saved."""

    row: IntegrationRow
    fields: tuple[str, ...]


class Saving:
    """Makes the row of one request: of the integration `name` in place of `row`, None: there is none.

    `wrong` is what is wrong already; `by` is who sends it.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        vault: Vault,
        name: str,
        row: IntegrationRow | None,
        *,
        wrong: Sequence[ItemError],
        by: str,
    ) -> None:
        self._snapshot = snapshot
        self._vault = vault
        self._name = name
        self.row = row
        self._wrong = wrong
        self._by = by

    def written(self, sent: Mapping[str, Any]) -> Made:
        """Of a whole document."""
        return self._saved(document_in(sent), self._load())

    def patched(self, sent: Mapping[str, Any]) -> Made:
        """Of what is stored after a merge patch."""
        former = self._load()
        if former is None:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT")
        return self._saved(former.patched(document_in(sent)), former)

    def _load(self) -> Former | None:
        row = self.row
        if row is None or row.state != "ok":
            return None
        try:
            return Former.load(row.document, row.secrets)
        except MalformedError:
            return None

    def _saved(self, document: Mapping[str, Any], former: Former | None) -> Made:
        draft = draft_of(document, former, self._snapshot, self._wrong)
        self._refuse_overlap(draft)
        before, now, by = self.row, int(time.time()), self._by
        intact = before if before is not None and before.state == "ok" else None
        lasting = new_row() if before is None else before.row
        kept = {} if intact is None else intact.secrets
        row = IntegrationRow(
            row=lasting,
            id=self._name,
            document=draft.saved.text(),
            secrets=sealed_fields(self._vault, lasting, self._name, draft, kept, by=by, now=now),
            created_at=now if intact is None else intact.created_at,
            updated_at=now,
            updated_by=by,
            hidden=before is not None and before.hidden,
        )
        written = {} if former is None else former.saved.written
        fields = {*differing(written, draft.saved.written), *draft.entered, *draft.removed}
        if not fields and intact is None:
            fields = {""}
        return Made(row, tuple(sorted(fields)))

    def _refuse_overlap(self, draft: Draft) -> None:
        if draft.kept:
            # What is kept is for the same destination as before, so that the targets are the same, too.
            return
        integration = build_draft(self._name, draft, self._snapshot.stored or Stored(), time.time())
        found = overlap_of(self._snapshot, integration)
        if found is not None:
            other = found.second if found.first == self._name else found.first
            detail = f"integration {other} covers {found.where} as well, and one caller lists both: narrow one of them"
            raise ApiProblem("overlaps", detail)


def differing(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """The pointers of what differs between two documents, as deep as both are objects."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differing(before.get(key), after.get(key), f"{where}{pointer((key,))}")
    elif before != after:
        yield where
