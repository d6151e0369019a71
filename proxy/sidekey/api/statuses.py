"""The status of integrations at one moment, both of files and of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidekey.snapshot.snapshot import Integration, Snapshot, file_wins
from sidekey.snapshot.status import UNVERIFIED, IntegrationStatus, status_of
from sidekey.store.records import IntegrationRow


class StatusView(NamedTuple):
    """Snapshot in use and start times of failures by ID, as of `now` (all in seconds since the epoch)."""

    snapshot: Snapshot
    failing: Mapping[str, int] = {}
    now: float = 0.0

    def of_served(self, integration: Integration) -> IntegrationStatus:
        """Return the status of an integration in the snapshot."""
        return status_of(integration, self.now, self.failing.get(integration.id))

    def of_stored(self, row: IntegrationRow) -> IntegrationStatus:
        """Return the status of a row, which may not be in the snapshot yet."""
        if served(self.snapshot, row.id, stored=False) is not None:
            return IntegrationStatus("unusable", file_wins("integration ID"))
        integration = served(self.snapshot, row.id, stored=True)
        problem = problem_of(self.snapshot, row.id) if row.verified else UNVERIFIED
        return status_of(integration, self.now, self.failing.get(row.id), problem)


def problem_of(snapshot: Snapshot, name: str) -> str:
    """Return why a stored integration could not be built, or an empty string."""
    return "" if snapshot.stored is None else snapshot.stored.problems.get(name, "")


def served(snapshot: Snapshot, name: str, *, stored: bool) -> Integration | None:
    """Return the integration in the snapshot with this ID, if it is from the store (`stored`) or else from a file."""
    integration = snapshot.integrations.get(name)
    return integration if integration is not None and integration.stored == stored else None
