"""Build the row of an integration from a document, and check its presets and overlaps. Call it in a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sidekey.api.collection import ResourceChange
from sidekey.api.errors import ApiProblem, ItemError, invalid, limit_errors
from sidekey.api.statuses import served_integration
from sidekey.config.build.presets import broken_presets
from sidekey.config.errors import MAX_ERRORS
from sidekey.config.stored.build import build_draft, build_unserved, first_overlap_of_integration
from sidekey.config.stored.document import MAX_SIZE, MalformedError
from sidekey.config.stored.presets import integration_id, load_document
from sidekey.config.stored.rows import NewRow, build_integration_row, previous_integration
from sidekey.config.stored.secrets import SealingKeys
from sidekey.config.stored.validate import DocumentError, Draft, PreviousIntegration, assess
from sidekey.snapshot.snapshot import Integration, Snapshot, StoredObjects
from sidekey.store.records import IntegrationRow, PresetRow
from sidekey.store.state import State

_MAX_NAMED: Final = 10
"""Maximum IDs of presets in a sentence."""


def build_integration(
    change: ResourceChange[IntegrationRow], snapshot: Snapshot, sealing_keys: SealingKeys
) -> NewRow[IntegrationRow]:
    """Build the row of a change. Raises ApiProblem with all errors."""
    previous, document, now = previous_integration(change.row), change.sent, time.time()
    errors = [*change.known_errors]
    if change.patch:
        if previous is None:
            raise ApiProblem("invalid", "the stored document cannot be read: send the complete document with PUT")
        document = previous.apply_patch(change.sent)
        errors += _size_errors(document)
    draft = validate_draft(document, previous, snapshot, errors)
    overlap = describe_overlap(snapshot, change.name, draft)
    if overlap is not None:
        raise ApiProblem("overlaps", overlap)
    is_used = any(preset.rules.integration == change.name for preset in snapshot.presets.values())
    if is_used and served_integration(snapshot, change.name, stored=True) is not None:
        stored = snapshot.stored or StoredObjects()
        refuse_edit(build_unserved(change.name, draft.settings, draft.entered, stored, now), snapshot)
    return build_integration_row(sealing_keys, change.name, draft, change.row, previous, by=change.by, now=int(now))


def _size_errors(document: Mapping[str, Any]) -> Iterator[ItemError]:
    """Yield an error if a patched document is too large: a PUT with its whole text could not replace it."""
    if len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_SIZE:
        yield ItemError("", f"must have at most {MAX_SIZE >> 10} KiB after the patch")


def validate_draft(
    document: Mapping[str, Any],
    previous: PreviousIntegration | None,
    snapshot: Snapshot,
    known_errors: Sequence[ItemError] = (),
) -> Draft:
    """Validate a document against the stored one, if any. Raises ApiProblem with its errors and the `known_errors`."""
    assessment = assess(document, previous, in_flight=snapshot.limits.in_flight, now=time.time())
    errors = [*known_errors, *(ItemError(*error) for error in assessment.errors)]
    reentry = reentry_errors(assessment.reenter)
    if errors:
        raise invalid([*errors, *reentry])
    if assessment.draft is None:
        detail = "the place or destination of secrets has changed: send each again as {value: SECRET}, see errors"
        raise ApiProblem("reenter", detail, errors=limit_errors(reentry))
    return assessment.draft


def reentry_errors(errors: Iterable[DocumentError]) -> list[ItemError]:
    """Convert the errors of stored secrets that the client must send again."""
    return [ItemError(error.pointer, f"must be sent again, since {error.detail}") for error in errors]


def describe_overlap(snapshot: Snapshot, name: str, draft: Draft) -> str | None:
    """Describe how a draft would overlap another integration of one caller. Return None if it would not."""
    # A draft that keeps a secret keeps its targets. Without `forward.match_by_host`, requests name their integration.
    if draft.kept or snapshot.matching is None:
        return None
    integration = build_draft(name, draft, snapshot.stored or StoredObjects(), time.time())
    overlap = first_overlap_of_integration(snapshot, integration)
    if overlap is None:
        return None
    other = overlap.second if overlap.first == name else overlap.first
    return f"integration {other} covers {overlap.url} as well, and one caller lists both: narrow one of them"


def refuse_edit(integration: Integration, snapshot: Snapshot) -> None:
    """Raise ApiProblem if presets that can be used now could not be used with the changed integration."""
    problems = broken_presets(integration, snapshot.presets)
    if problems:
        errors = [ItemError("", f"preset {name}: {text}") for name, reasons in problems.items() for text in reasons]
        detail = f"{_list_presets(list(problems))} could not be used any more: change what uses it first, see errors"
        raise ApiProblem("in_use", detail, errors=limit_errors(errors), presets=list(problems)[:MAX_ERRORS])


def refuse_deletion(integration: str, state: State, snapshot: Snapshot) -> None:
    """Raise ApiProblem if presets use a stored integration."""
    presets = presets_of(integration, state, snapshot)
    if presets:
        verb = "use" if len(presets) > 1 else "uses"
        detail = f"{_list_presets(presets)} {verb} it: delete what uses it first, or have it use another integration"
        raise ApiProblem("in_use", detail, presets=presets[:MAX_ERRORS])


def presets_of(integration: str, state: State, snapshot: Snapshot) -> list[str]:
    """Return the sorted IDs of all presets that use an integration, also those that only the store has."""
    served = {name for name, preset in snapshot.presets.items() if preset.rules.integration == integration}
    rows = (row for row in state.presets.values() if not is_preset_served(row, snapshot))
    return sorted(served | {row.id for row in rows if _uses(row, integration)})


def is_preset_served(row: PresetRow, snapshot: Snapshot) -> bool:
    """Return True if the snapshot has this version of the preset: then the document need not be parsed."""
    preset = snapshot.presets.get(row.id)
    return preset is not None and row.verified and (preset.row, preset.document) == (row.row_id, row.document)


def _uses(row: PresetRow, integration: str) -> bool:
    try:
        return integration_id(load_document(row)) == integration
    except MalformedError:
        return False


def _list_presets(presets: Sequence[str]) -> str:
    """Write the IDs of presets as the subject of a sentence."""
    more = f" and {len(presets) - _MAX_NAMED} more" if len(presets) > _MAX_NAMED else ""
    return f"preset{'s' if len(presets) > 1 else ''} {', '.join(presets[:_MAX_NAMED])}{more}"
