"""How integrations are shown: what is stored, what a file says, and both in a list. Called in a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidekey.admin.api.named import Key, contains, keys, page_of
from sidekey.credentials.fields import mapping
from sidekey.runtime.snapshot import WAITING, Integration, Judgement, Snapshot, Stored
from sidekey.settings.stored.document import MalformedError, Saved
from sidekey.settings.stored.reading import instant, shown
from sidekey.settings.stored.saving import Former
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State

ABOUT: Final = frozenset(
    {
        "id",
        "source",
        "version",
        "status",
        "reason",
        "usable",
        "kind",
        "base",
        "created_at",
        "updated_at",
        "updated_by",
    }
)
"""What is said of an integration beside its document; sent back, only `id` counts, which must be the same."""


def judgement_of(snapshot: Snapshot, name: str) -> Judgement:
    """How a stored integration stands."""
    stored = snapshot.stored or Stored()
    return stored.judgements.get(name, WAITING)


def served(snapshot: Snapshot, name: str, *, stored: bool) -> Integration | None:
    """What is served under an ID, where it is of the store, or of a file."""
    found = snapshot.integrations.get(name)
    return found if found is not None and found.stored == stored else None


def whole(row: IntegrationRow, snapshot: Snapshot) -> dict[str, Any]:
    """A stored integration with its document, which is left out where it is not to be relied upon."""
    document: Any = {}
    if row.state == "ok":
        try:
            document = shown(Former.load(row.document, row.secrets), row.secrets)
        except MalformedError:
            document = {}
    return {"id": row.id, **document, **_about_stored(row, snapshot)}


def whole_of_file(integration: Integration) -> dict[str, Any]:
    """What is told of an integration from a file: its config is for whoever may read that."""
    document = {"description": integration.description, "tags": list(integration.tags)}
    return {"id": integration.id, **document, **_about_file(integration)}


def _about_stored(row: IntegrationRow, snapshot: Snapshot) -> dict[str, Any]:
    integration = served(snapshot, row.id, stored=True)
    status, usable = _standing(row, integration, snapshot)
    return {
        "source": "store",
        "version": row.version,
        "status": status,
        "reason": judgement_of(snapshot, row.id).reason or None,
        "usable": usable,
        "kind": _kind(row, integration),
        "base": _base(integration),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "updated_by": row.updated_by,
    }


def _standing(row: IntegrationRow, integration: Integration | None, snapshot: Snapshot) -> tuple[str, bool]:
    """How a stored integration stands, and whether all it needs can be read."""
    state = judgement_of(snapshot, row.id).state
    usable = state == "ok" and integration is not None and integration.usable
    return "altered" if row.state == "altered" else state, usable


def _about_file(integration: Integration) -> dict[str, Any]:
    return {
        "source": "file",
        "version": None,
        "status": "ok",
        "reason": None,
        "usable": integration.usable,
        "kind": integration.kind,
        "base": _base(integration),
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


def _kind(row: IntegrationRow, integration: Integration | None) -> str | None:
    if integration is not None and integration.rebuild is None:
        return integration.kind
    return _text(mapping(_written(row).get("auth")).get("type"))


def _written(row: IntegrationRow) -> Mapping[str, Any]:
    if row.state != "ok":
        return {}
    try:
        return Saved.load(row.document).written
    except MalformedError:
        return {}


def _text(written: object) -> str | None:
    """What this version takes for a text: another one may have written what is stored."""
    return written if isinstance(written, str) else None


def _base(integration: Integration | None) -> str | None:
    return None if integration is None or integration.base is None else str(integration.base)


class Wanted(NamedTuple):
    """Which integrations a list is to have; empty: whichever. `after` is where the page before has ended."""

    q: str = ""
    tag: str = ""
    kind: str = ""
    status: str = ""
    usable: str = ""
    after: str = ""


def page(state: State, snapshot: Snapshot, wanted: Wanted) -> dict[str, Any]:
    """A page of all integrations, by ID; where a file and the store have the same, both."""

    def item(key: Key) -> dict[str, Any] | None:
        entry = _entry(key, state, snapshot)
        return _item(entry, snapshot) if _is_wanted(entry, wanted) else None

    files = (name for name, each in snapshot.integrations.items() if not each.stored)
    return page_of(keys(files, state.integrations), wanted.after, item)


class _Entry(NamedTuple):
    """What a list is searched by: there may be ten thousand, of which a page shows fifty. `row` None: of a file."""

    name: str
    source: str
    description: str
    tags: Sequence[str]
    kind: str | None
    status: str
    usable: bool
    row: IntegrationRow | None


def _entry(key: Key, state: State, snapshot: Snapshot) -> _Entry:
    name, source = key
    if source == "file":
        each = snapshot.integrations[name]
        return _Entry(name, source, each.description, each.tags, each.kind, "ok", each.usable, None)
    row = state.integrations[name]
    integration = served(snapshot, name, stored=True)
    status, usable = _standing(row, integration, snapshot)
    if integration is not None and integration.rebuild is None:
        return _Entry(name, source, integration.description, integration.tags, integration.kind, status, usable, row)
    written = _written(row)
    tags = written.get("tags")
    found = [each for each in tags if isinstance(each, str)] if isinstance(tags, list) else []
    return _Entry(
        name, source, _text(written.get("description")) or "", found, _kind(row, integration), status, usable, row
    )


def _item(entry: _Entry, snapshot: Snapshot) -> dict[str, Any]:
    about = _about_file(snapshot.integrations[entry.name]) if entry.row is None else _about_stored(entry.row, snapshot)
    return {"id": entry.name, "description": entry.description, "tags": list(entry.tags), **about}


def _is_wanted(entry: _Entry, wanted: Wanted) -> bool:
    if wanted.tag and wanted.tag not in entry.tags:
        return False
    if wanted.kind and wanted.kind != entry.kind:
        return False
    if wanted.status and wanted.status != entry.status:
        return False
    if wanted.usable and (wanted.usable == "true") is not entry.usable:
        return False
    return not wanted.q or contains(wanted.q, (entry.name, entry.description, *entry.tags))
