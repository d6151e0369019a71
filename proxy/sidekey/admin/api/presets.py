"""`/presets`: create, read, change and delete stored presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sidekey.admin.api import preset_documents
from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.collection import Collection
from sidekey.admin.api.named import AFTER
from sidekey.admin.api.preset_documents import STATUSES, Wanted
from sidekey.admin.api.preset_saving import PresetSaving
from sidekey.admin.api.problems import ItemError
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import Standings
from sidekey.runtime.snapshot import Snapshot
from sidekey.settings.values import NAME_PATTERN
from sidekey.store.records import PresetRow
from sidekey.store.state import State

QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that ID, description, integration or a tag contains, in any case."},
    "tag": {"type": "string", "description": "A tag."},
    "integration": {"type": "string", "pattern": f"^{NAME_PATTERN}$", "description": "The ID of its integration."},
    "status": {"type": "string", "enum": list(STATUSES), "description": "How it stands."},
    "after": AFTER,
}


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    wanted = Wanted(**ask.query)
    return await service.answer(preset_documents.page, service.store.state, service.snapshot, wanted)


class Presets(Collection[PresetRow]):
    """Presets."""

    kind = "preset"
    name = "a preset"
    about = preset_documents.ABOUT

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

ROUTES: Final = PRESETS.routes(browse, QUERY)
