"""Make the row of an integration from the document that was sent. Called in a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sidekey.api.collection import ResourceChange
from sidekey.api.errors import ApiProblem, ItemError, invalid, listed
from sidekey.api.statuses import served
from sidekey.config.build.presets import broken_presets
from sidekey.config.errors import MAX_ERRORS
from sidekey.config.stored.build import build_draft, build_unserved, overlap_of
from sidekey.config.stored.document import MAX_SIZE, MalformedError
from sidekey.config.stored.presets import integration_id, load_document
from sidekey.config.stored.rows import NewRow, build_integration_row, previous_integration
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import DocumentError, Draft, PreviousIntegration, assess
from sidekey.snapshot.snapshot import Integration, Snapshot, Stored
from sidekey.store.records import IntegrationRow, PresetRow
from sidekey.store.state import State

_NAMED: Final = 10
"""IDs in a sentence."""


def is_served(row: PresetRow, snapshot: Snapshot) -> bool:
    """Return True if the snapshot has the preset of a row, so that its document need not be read."""
    served = snapshot.presets.get(row.id)
    return served is not None and row.verified and (served.row, served.document) == (row.row, row.document)


def refuse_deletion(integration: str, state: State, snapshot: Snapshot) -> None:
    """Raise ApiProblem if presets use a stored integration."""
    found = presets_of(integration, state, snapshot)
    if found:
        verb = "use" if len(found) > 1 else "uses"
        detail = f"{_named(found)} {verb} it: delete what uses it first, or have it use another integration"
        raise ApiProblem("in_use", detail, presets=found[:MAX_ERRORS])


def refuse_edit(integration: Integration, snapshot: Snapshot) -> None:
    """Raise ApiProblem if presets that can be used now could not be used with the changed integration."""
    found = broken_presets(integration, snapshot.presets)
    if found:
        errors = [ItemError("", f"preset {name}: {text}") for name, reasons in found.items() for text in reasons]
        detail = f"{_named(list(found))} could not be used any more: change what uses it first, see errors"
        raise ApiProblem("in_use", detail, errors=listed(errors), presets=list(found)[:MAX_ERRORS])


def presets_of(integration: str, state: State, snapshot: Snapshot) -> list[str]:
    """Return the IDs of presets that use an integration, of files and of the store, served or not."""
    served = {name for name, each in snapshot.presets.items() if each.rules.integration == integration}
    rows = (row for row in state.presets.values() if not is_served(row, snapshot))
    return sorted(served | {row.id for row in rows if _names(row, integration)})


def _names(row: PresetRow, integration: str) -> bool:
    try:
        return integration_id(load_document(row)) == integration
    except MalformedError:
        return False


def _named(found: Sequence[str]) -> str:
    """Return the IDs for a sentence."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"preset{'s' if len(found) > 1 else ''} {', '.join(found[:_NAMED])}{more}"


def enter_again(again: Iterable[DocumentError]) -> list[ItemError]:
    """Return the errors of stored secrets that must be sent again."""
    return [ItemError(each.pointer, f"must be sent again, since {each.detail}") for each in again]


def draft_of(
    document: Mapping[str, Any], former: PreviousIntegration | None, snapshot: Snapshot, wrong: Sequence[ItemError] = ()
) -> Draft:
    """Validate a document. Raises ApiProblem with all errors, and those that are known already (`wrong`)."""
    found = assess(document, former, in_flight=snapshot.limits.in_flight, now=time.time())
    errors = [*wrong, *(ItemError(*each) for each in found.errors)]
    again = enter_again(found.reenter)
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
    if len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_SIZE:
        yield ItemError("", f"must have at most {MAX_SIZE >> 10} KiB after the patch")


def make_integration(
    edit: ResourceChange[IntegrationRow], snapshot: Snapshot, vault: SealingKeys
) -> NewRow[IntegrationRow]:
    """Make the row of a change. Raises ApiProblem with all errors."""
    former, document, now = previous_integration(edit.row), edit.sent, time.time()
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
    return build_integration_row(vault, edit.name, draft, edit.row, former, by=edit.by, now=int(now))
