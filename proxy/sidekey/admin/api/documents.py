"""How integrations are shown: what is stored, what a file says, and both in a list. Called in a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from sidekey.credentials.fields import mapping
from sidekey.runtime.snapshot import Integration, Judgement, Snapshot, Stored
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

PAGE: Final = 50

_WAITING: Final = Judgement("ok", "it was saved a moment ago")


def judgement_of(snapshot: Snapshot, name: str) -> Judgement:
    """How a stored integration stands."""
    stored = snapshot.stored or Stored()
    return stored.judgements.get(name, _WAITING)


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
    judgement = judgement_of(snapshot, row.id)
    return {
        "source": "store",
        "version": row.version,
        "status": "altered" if row.state == "altered" else judgement.state,
        "reason": judgement.reason or None,
        "usable": integration is not None and judgement.state == "ok" and integration.usable,
        "kind": _kind(row, integration),
        "base": _base(integration),
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "updated_by": row.updated_by,
    }


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
    items: list[dict[str, Any]] = []
    after = (*wanted.after.partition(":")[::2],) if wanted.after else ("", "")
    for key in _keys(state, snapshot):
        if key <= after:
            continue
        item = _item(key, state, snapshot)
        if _is_wanted(item, wanted):
            if len(items) == PAGE:
                return {"items": items, "next": f"{items[-1]['id']}:{items[-1]['source']}"}
            items.append(item)
    return {"items": items, "next": None}


def _keys(state: State, snapshot: Snapshot) -> list[tuple[str, str]]:
    files = [(name, "file") for name, each in snapshot.integrations.items() if not each.stored]
    return sorted([*files, *((name, "store") for name in state.integrations)])


def _item(key: tuple[str, str], state: State, snapshot: Snapshot) -> dict[str, Any]:
    name, source = key
    if source == "file":
        return whole_of_file(snapshot.integrations[name])
    row = state.integrations[name]
    integration = served(snapshot, name, stored=True)
    if integration is not None and integration.rebuild is None:
        said: dict[str, Any] = {"description": integration.description, "tags": list(integration.tags)}
    else:
        written = _written(row)
        tags = written.get("tags")
        found = [each for each in tags if isinstance(each, str)] if isinstance(tags, list) else []
        said = {"description": _text(written.get("description")) or "", "tags": found}
    return {"id": name, **said, **_about_stored(row, snapshot)}


def _is_wanted(item: Mapping[str, Any], wanted: Wanted) -> bool:
    if wanted.q and wanted.q.casefold() not in "\n".join(_texts(item)).casefold():
        return False
    if wanted.tag and wanted.tag not in item["tags"]:
        return False
    if wanted.kind and wanted.kind != item["kind"]:
        return False
    if wanted.status and wanted.status != item["status"]:
        return False
    return not wanted.usable or (wanted.usable == "true") is item["usable"]


def _texts(item: Mapping[str, Any]) -> Iterator[str]:
    yield item["id"]
    yield item["description"]
    yield from item["tags"]
