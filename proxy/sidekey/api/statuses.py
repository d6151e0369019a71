"""The status of the integrations of a process at one moment, those of files and of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidekey.snapshot.snapshot import Integration, Snapshot, file_wins
from sidekey.snapshot.status import UNVERIFIED, IntegrationStatus, status_of
from sidekey.store.records import IntegrationRow


class StatusView(NamedTuple):
    """What is known at `now` (seconds since the epoch): the snapshot in use, and since when which IDs are failing."""

    snapshot: Snapshot
    failing: Mapping[str, int] = {}
    now: float = 0.0

    def of_served(self, integration: Integration) -> IntegrationStatus:
        """Judge an integration that is served."""
        return status_of(integration, self.now, self.failing.get(integration.id))

    def of_stored(self, row: IntegrationRow) -> IntegrationStatus:
        """Judge a stored one, also if it was saved a moment ago and the snapshot does not know it yet."""
        if served(self.snapshot, row.id, stored=False) is not None:
            return IntegrationStatus("unusable", file_wins("integration ID"))
        integration = served(self.snapshot, row.id, stored=True)
        problem = problem_of(self.snapshot, row.id) if row.verified else UNVERIFIED
        return status_of(integration, self.now, self.failing.get(row.id), problem)


def problem_of(snapshot: Snapshot, name: str) -> str:
    """Return the problem that was found when a stored integration was built; empty: none."""
    return "" if snapshot.stored is None else snapshot.stored.problems.get(name, "")


def served(snapshot: Snapshot, name: str, *, stored: bool) -> Integration | None:
    """Return what is served under an ID, if it is of the store, or of a file."""
    found = snapshot.integrations.get(name)
    return found if found is not None and found.stored == stored else None
