"""`/integrations`: create, read, change and delete stored integrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sidekey.admin.api import documents
from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.collection import Collection
from sidekey.admin.api.documents import USABLE, Wanted
from sidekey.admin.api.named import AFTER
from sidekey.admin.api.problems import ItemError
from sidekey.admin.api.saving import IntegrationSaving
from sidekey.admin.api.service import Service
from sidekey.admin.api.standings import Standings, served
from sidekey.admin.api.uses import refuse_deletion
from sidekey.credentials.registry import KINDS
from sidekey.runtime.snapshot import Snapshot
from sidekey.runtime.standing import STATUSES
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State

QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that ID, description, a tag or a host contains, in any case."},
    "tag": {"type": "string", "description": "A tag."},
    "kind": {"type": "string", "enum": sorted(KINDS), "description": "The kind of its credential."},
    "status": {"type": "string", "enum": list(STATUSES), "description": "How it stands."},
    "usable": {"type": "string", "enum": ["true", "false"], "description": USABLE},
    "after": AFTER,
}


async def browse(service: Service, ask: Ask) -> Answer:
    """A page of them."""
    wanted = Wanted(**ask.query)
    return await service.answer(documents.page, service.store.state, service.standings, wanted)


class Integrations(Collection[IntegrationRow]):
    """Integrations."""

    kind = "integration"
    name = "an integration"
    codes = MappingProxyType(
        {"create": ("overlaps",), "update": ("reenter", "in_use", "overlaps"), "delete": ("in_use",)}
    )
    about = documents.ABOUT
    has_secrets = True

    def rows(self, state: State) -> Mapping[str, IntegrationRow]:
        """As `Collection.rows`."""
        return state.integrations

    def has_file(self, snapshot: Snapshot, name: str) -> bool:
        """As `Collection.has_file`."""
        return served(snapshot, name, stored=False) is not None

    def of_file(self, standings: Standings, name: str) -> dict[str, Any]:
        """As `Collection.of_file`."""
        return documents.whole_of_file(standings.snapshot.integrations[name], standings)

    def of_store(self, row: IntegrationRow, standings: Standings) -> dict[str, Any]:
        """As `Collection.of_store`."""
        return documents.whole(row, standings)

    def for_viewer(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `Collection.for_viewer`."""
        return documents.for_viewer(document)

    def saving(
        self, service: Service, ask: Ask, name: str, row: IntegrationRow | None, wrong: Sequence[ItemError]
    ) -> IntegrationSaving:
        """As `Collection.saving`."""
        vault, by = service.managed.vault, ask.operator.name
        return IntegrationSaving(service.snapshot, vault, name, row, wrong=wrong, by=by)

    def refuse_deletion(self, row: IntegrationRow, state: State, snapshot: Snapshot) -> None:
        """As `Collection.refuse_deletion`: presets use it, unless it is a file's that they use."""
        if not self.has_file(snapshot, row.id):
            refuse_deletion(row.id, state, snapshot)


INTEGRATIONS: Final = Integrations()

ROUTES: Final = INTEGRATIONS.routes(browse, QUERY)
