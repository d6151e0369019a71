"""How presets are shown, whole and in a list: they hold no secret, so that a file's is shown as well. In a thread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sidekey.admin.api.named import Key, contains, keys, page_of
from sidekey.runtime.snapshot import Preset, Snapshot
from sidekey.runtime.standing import UNVERIFIED
from sidekey.settings.stored.document import MalformedError
from sidekey.settings.stored.presets import document_of
from sidekey.settings.stored.reading import instant
from sidekey.store.records import PresetRow
from sidekey.store.state import State

STATUSES: Final = ("ok", "unusable")

ABOUT: Final = frozenset({"id", "source", "version", "status", "problem", "created_at", "updated_at", "updated_by"})
"""What is said of a preset beside its document; sent back, only `id` counts, which must be the same."""


def of_file(snapshot: Snapshot, name: str) -> Preset | None:
    """The preset of an ID that a file has."""
    found = snapshot.presets.get(name)
    return None if found is None or found.stored else found


def whole(row: PresetRow, snapshot: Snapshot) -> dict[str, Any]:
    """A stored preset with its document, which is left out where it is not to be relied upon."""
    return {"id": row.id, **_written(row), **_about_stored(row, snapshot)}


def whole_of_file(preset: Preset) -> dict[str, Any]:
    """A preset of a file with its document."""
    return {"id": preset.id, **json.loads(preset.document), **_about_file(preset)}


def _written(row: PresetRow) -> dict[str, Any]:
    try:
        return document_of(row)
    except MalformedError:
        return {}


def problem_of(row: PresetRow, snapshot: Snapshot) -> str:
    """Return why a stored preset cannot be used; empty: it can."""
    return snapshot.preset_problem(row.id) or ("" if row.verified else UNVERIFIED)


def status_of(problem: str) -> str:
    """Return the status of a preset with this problem, if any."""
    return "unusable" if problem else "ok"


def is_served(row: PresetRow, snapshot: Snapshot) -> bool:
    """Whether the snapshot has what a row says, so that its document need not be read."""
    served = snapshot.presets.get(row.id)
    return served is not None and row.verified and (served.row, served.document) == (row.row, row.document)


def _about_stored(row: PresetRow, snapshot: Snapshot) -> dict[str, Any]:
    problem = problem_of(row, snapshot)
    return {
        "source": "store",
        "version": row.version,
        "status": status_of(problem),
        "problem": problem or None,
        "created_at": instant(row.created_at),
        "updated_at": instant(row.updated_at),
        "updated_by": row.updated_by,
    }


def _about_file(preset: Preset) -> dict[str, Any]:
    return {
        "source": "file",
        "version": None,
        "status": status_of(preset.invalid),
        "problem": preset.invalid or None,
        "created_at": None,
        "updated_at": None,
        "updated_by": None,
    }


class Wanted(NamedTuple):
    """Which presets a list is to have; empty: whichever. `after` is where the page before has ended."""

    q: str = ""
    tag: str = ""
    integration: str = ""
    status: str = ""
    after: str = ""


def page(state: State, snapshot: Snapshot, wanted: Wanted) -> dict[str, Any]:
    """A page of all presets, by ID; where a file and the store have the same, both."""

    def item(key: Key) -> dict[str, Any] | None:
        entry = _entry(key, state, snapshot)
        return _item(entry, snapshot) if _is_wanted(entry, wanted) else None

    files = (name for name, each in snapshot.presets.items() if not each.stored)
    return page_of(keys(files, state.presets), wanted.after, item)


class _Entry(NamedTuple):
    """What a list is searched by, and shows: there may be ten thousand. `row` None: of a file."""

    name: str
    description: str
    tags: tuple[str, ...]
    integration: str | None
    method: str | None
    url: str | None
    status: str
    row: PresetRow | None


def _entry(key: Key, state: State, snapshot: Snapshot) -> _Entry:
    name, source = key
    served = snapshot.presets.get(name)
    if source == "file" and served is not None:
        return _of_built(served, status_of(served.invalid), None)
    row = state.presets[name]
    status = status_of(problem_of(row, snapshot))
    if served is not None and is_served(row, snapshot):
        return _of_built(served, status, row)
    return _of_written(row, status)


def _of_built(preset: Preset, status: str, row: PresetRow | None) -> _Entry:
    rules = preset.rules
    return _Entry(
        preset.id,
        preset.description,
        preset.tags,
        rules.integration,
        rules.method.decode(),
        preset.url,
        status,
        row,
    )


def _of_written(row: PresetRow, status: str) -> _Entry:
    """By its document, which another version may have written."""
    document = _written(row)
    tags = document.get("tags")
    found = tuple(each for each in tags if isinstance(each, str)) if isinstance(tags, list) else ()
    integration, method, url = (_text(document, key) for key in ("integration", "method", "url"))
    return _Entry(row.id, _text(document, "description") or "", found, integration, method, url, status, row)


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _item(entry: _Entry, snapshot: Snapshot) -> dict[str, Any]:
    about = _about_file(snapshot.presets[entry.name]) if entry.row is None else _about_stored(entry.row, snapshot)
    return {
        "id": entry.name,
        "description": entry.description,
        "tags": list(entry.tags),
        "integration": entry.integration,
        "method": entry.method,
        "url": entry.url,
        **about,
    }


def _is_wanted(entry: _Entry, wanted: Wanted) -> bool:
    if wanted.tag and wanted.tag not in entry.tags:
        return False
    if wanted.integration and wanted.integration != entry.integration:
        return False
    if wanted.status and wanted.status != entry.status:
        return False
    texts = (entry.name, entry.description, entry.integration or "", *entry.tags)
    return not wanted.q or contains(wanted.q, texts)
