"""`/presets`: stored presets are made, read, changed, deleted and released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from sidekey.admin.api import preset_documents
from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.collection import Collection
from sidekey.admin.api.named import AFTER
from sidekey.admin.api.preset_documents import Wanted
from sidekey.admin.api.preset_saving import PresetSaving
from sidekey.admin.api.problems import ItemError
from sidekey.admin.api.route import JSON, MERGE_PATCH, Route
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import Standings
from sidekey.runtime.snapshot import PRESET_STATES, Snapshot
from sidekey.settings.values import NAME_PATTERN
from sidekey.store.records import PresetRow
from sidekey.store.state import State

QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that ID, description, integration or a tag contains, in any case."},
    "tag": {"type": "string", "description": "A tag."},
    "integration": {"type": "string", "pattern": f"^{NAME_PATTERN}$", "description": "The ID of its integration."},
    "status": {"type": "string", "enum": list(PRESET_STATES), "description": "How it stands."},
    "after": AFTER,
}


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    wanted = Wanted(**ask.query)
    return await service.answer(preset_documents.page, service.store.state, service.snapshot, wanted)


class Presets(Collection[PresetRow]):
    """Presets."""

    path = "/presets"
    name = "a preset"

    def rows(self, state: State) -> Mapping[str, PresetRow]:
        """As `Collection.rows`."""
        return state.presets

    def has_file(self, snapshot: Snapshot, name: str) -> bool:
        """As `Collection.has_file`."""
        return preset_documents.of_file(snapshot, name) is not None

    def of_file(self, standings: Standings, name: str) -> dict[str, Any]:
        """As `Collection.of_file`."""
        return preset_documents.whole_of_file(standings.snapshot.presets[name])

    def of_store(self, row: PresetRow, standings: Standings) -> dict[str, Any]:
        """As `Collection.of_store`."""
        return preset_documents.whole(row, standings.snapshot)

    def saving(
        self, service: Service, ask: Ask, name: str, row: PresetRow | None, wrong: Sequence[ItemError]
    ) -> PresetSaving:
        """As `Collection.saving`."""
        return PresetSaving(service.snapshot, name, row, wrong=wrong, by=ask.operator.name)

    def refuse_deletion(self, row: PresetRow, state: State, snapshot: Snapshot) -> None:
        """As `Collection.refuse_deletion`: nothing needs a preset but who sends by it."""


PRESETS: Final = Presets()

_ALL: Final = partial(Route, path="/presets")
_ONE: Final = partial(Route, path="/presets/{id}")
_CHANGE: Final = partial(
    Route,
    path="/presets/{id}",
    role="editor",
    conditional=True,
    codes=("read_only", "not_found", "invalid", "store_unavailable"),
    writes="preset",
    action="update",
    gives="Preset",
)

ROUTES: Final = (
    _ALL(
        method="GET",
        name="listPresets",
        summary="List presets of files and of the store, by ID.",
        role="viewer",
        handle=browse,
        query=QUERY,
        gives="Presets",
    ),
    _ALL(
        method="POST",
        name="createPreset",
        summary="Save a new preset, and serve it.",
        role="editor",
        handle=PRESETS.create,
        body="NewPreset",
        gives="Preset",
        status=201,
        codes=("exists", "invalid", "store_unavailable"),
        writes="preset",
        action="create",
    ),
    _ONE(
        method="GET",
        name="getPreset",
        summary="Read a preset, of a file as well.",
        role="viewer",
        handle=PRESETS.read,
        gives="Preset",
        codes=("not_found",),
    ),
    _CHANGE(
        method="PUT",
        name="replacePreset",
        summary="Replace the document.",
        handle=PRESETS.replace,
        body="PresetDocument",
    ),
    _CHANGE(
        method="PATCH",
        name="patchPreset",
        summary="Change some of the document (RFC 7396). What is left out stays.",
        handle=PRESETS.patch,
        body="Patch",
        accepts=(MERGE_PATCH, JSON),
    ),
    _CHANGE(
        method="DELETE",
        name="deletePreset",
        summary="Delete a preset.",
        handle=PRESETS.delete,
        gives="",
        status=204,
        codes=("read_only", "not_found", "store_unavailable"),
        action="delete",
    ),
    _CHANGE(
        method="POST",
        path="/presets/{id}/release",
        name="releasePreset",
        summary="Serve a preset that is hidden because a file had its ID.",
        handle=PRESETS.release,
        codes=("read_only", "not_found", "store_unavailable"),
        action="release",
    ),
)
