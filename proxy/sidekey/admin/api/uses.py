"""Refuse changes that would take an integration from presets that use it. Called in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sidekey.admin.api.problems import ApiProblem, ItemError, listed
from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.settings.config_errors import MOST_ERRORS
from sidekey.settings.presets import left_behind
from sidekey.settings.stored.document import MalformedError
from sidekey.settings.stored.presets import document_of, integration_in
from sidekey.store.records import PresetRow
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
        raise ApiProblem("in_use", detail, presets=found[:MOST_ERRORS])


def refuse_edit(integration: Integration, snapshot: Snapshot) -> None:
    """Raise ApiProblem if presets that can be used now could not be used with the changed integration."""
    found = left_behind(integration, snapshot.presets)
    if found:
        errors = [ItemError("", f"preset {name}: {text}") for name, reasons in found.items() for text in reasons]
        detail = f"{_named(list(found))} could not be used any more: change what uses it first, see errors"
        raise ApiProblem("in_use", detail, errors=listed(errors), presets=list(found)[:MOST_ERRORS])


def presets_of(integration: str, state: State, snapshot: Snapshot) -> list[str]:
    """Return the IDs of presets that use an integration, of files and of the store, served or not."""
    served = {name for name, each in snapshot.presets.items() if each.rules.integration == integration}
    rows = (row for row in state.presets.values() if not is_served(row, snapshot))
    return sorted(served | {row.id for row in rows if _names(row, integration)})


def _names(row: PresetRow, integration: str) -> bool:
    try:
        return integration_in(document_of(row)) == integration
    except MalformedError:
        return False


def _named(found: Sequence[str]) -> str:
    """Return the IDs for a sentence."""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"preset{'s' if len(found) > 1 else ''} {', '.join(found[:_NAMED])}{more}"
