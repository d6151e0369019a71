"""Make the row of an integration from the document that was sent. Called in a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sidekey.admin.api.collection import Edit
from sidekey.admin.api.problems import ApiProblem, ItemError, invalid, listed
from sidekey.admin.api.standings import served
from sidekey.admin.api.uses import refuse_edit
from sidekey.runtime.snapshot import Snapshot, Stored
from sidekey.settings.stored.document import LARGEST
from sidekey.settings.stored.opening import Vault
from sidekey.settings.stored.overlaps import overlap_of
from sidekey.settings.stored.rows import NewRow, former_of, saved_row
from sidekey.settings.stored.saving import DocumentError, Draft, Former, assess
from sidekey.settings.stored.source import build_draft, build_unserved
from sidekey.store.records import IntegrationRow


def enter_again(again: Iterable[DocumentError]) -> list[ItemError]:
    """Return the errors of stored secrets that must be sent again."""
    return [ItemError(each.pointer, f"must be sent again, since {each.detail}") for each in again]


def draft_of(
    document: Mapping[str, Any], former: Former | None, snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> Draft:
    """Validate a document. Raises ApiProblem with all errors, and those that are known already (`wrong`)."""
    found = assess(document, former, in_flight=snapshot.limits.in_flight, now=time.time())
    errors = [*wrong, *(ItemError(*each) for each in found.errors)]
    again = enter_again(found.again)
    if errors:
        raise invalid([*errors, *again])
    if found.draft is None:
        detail = "the place or destination of secrets has changed: send each again as {value: SECRET}, see errors"
        raise ApiProblem("reenter", detail, errors=listed(again))
    return found.draft


def overlap_in(snapshot: Snapshot, name: str, draft: Draft) -> str | None:
    """Return why a draft may not be saved beside what else is served, or None."""
    if draft.kept or snapshot.matching is None:
        # A secret that is kept has the same destination as before, and so the targets are the same, too.
        return None
    integration = build_draft(name, draft, snapshot.stored or Stored(), time.time())
    found = overlap_of(snapshot, integration)
    if found is None:
        return None
    other = found.second if found.first == name else found.first
    return f"integration {other} covers {found.where} as well, and one caller lists both: narrow one of them"


def _size_errors(document: Mapping[str, Any]) -> Iterator[ItemError]:
    """Refuse a document that is larger after a patch than any that can be sent: nobody could send it back."""
    if len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) > LARGEST:
        yield ItemError("", f"must have at most {LARGEST >> 10} KiB after the patch")


def make_integration(edit: Edit[IntegrationRow], snapshot: Snapshot, vault: Vault) -> NewRow[IntegrationRow]:
    """Make the row of a change. Raises ApiProblem with all errors."""
    former, document, now = former_of(edit.row), edit.sent, time.time()
    wrong = [*edit.wrong]
    if edit.patch:
        if former is None:
            raise ApiProblem("invalid", "what is stored cannot be read: send the whole document by PUT")
        document = former.patched(edit.sent)
        wrong += _size_errors(document)
    draft = draft_of(document, former, snapshot, wrong)
    overlap = overlap_in(snapshot, edit.name, draft)
    if overlap is not None:
        raise ApiProblem("overlaps", overlap)
    is_used = any(each.rules.integration == edit.name for each in snapshot.presets.values())
    if is_used and served(snapshot, edit.name, stored=True) is not None:
        stored = snapshot.stored or Stored()
        refuse_edit(build_unserved(edit.name, draft.settings, draft.entered, stored, now), snapshot)
    return saved_row(vault, edit.name, draft, edit.row, former, by=edit.by, now=int(now))
