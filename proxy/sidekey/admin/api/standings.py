"""How the integrations of a process stand at one moment, those of files and of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidekey.runtime.snapshot import ALTERED, WAITING, Integration, Judgement, Snapshot
from sidekey.runtime.standing import Standing, standing_of
from sidekey.store.records import IntegrationRow


class Standings(NamedTuple):
    """What is known at `now` (seconds since the epoch): the snapshot in use, and since when which IDs are failing."""

    snapshot: Snapshot
    failing: Mapping[str, int] = {}
    now: float = 0.0

    def of_file(self, integration: Integration) -> Standing:
        """How one of a file stands."""
        return standing_of(integration, self.now, self.failing.get(integration.id))

    def of_stored(self, row: IntegrationRow) -> Standing:
        """How a stored one stands, where the snapshot does not know it yet as well."""
        integration = served(self.snapshot, row.id, stored=True)
        return standing_of(integration, self.now, self.failing.get(row.id), self._judgement(row))

    def _judgement(self, row: IntegrationRow) -> Judgement:
        judgement = judgement_of(self.snapshot, row.id)
        return ALTERED if row.state == "altered" and judgement.state != "altered" else judgement


def judgement_of(snapshot: Snapshot, name: str) -> Judgement:
    """What is to be said of a stored integration as it was built."""
    return WAITING if snapshot.stored is None else snapshot.stored.judgements.get(name, WAITING)


def served(snapshot: Snapshot, name: str, *, stored: bool) -> Integration | None:
    """What is served under an ID, where it is of the store, or of a file."""
    found = snapshot.integrations.get(name)
    return found if found is not None and found.stored == stored else None
