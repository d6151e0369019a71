"""Status of integrations at one moment, from files and from the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidekey.snapshot.snapshot import Integration, Snapshot, shadowed_by_file
from sidekey.snapshot.status import UNVERIFIED, FailingSince, IntegrationStatus, status_of
from sidekey.store.records import IntegrationRow


class StatusView(NamedTuple):
    """Computes statuses at `now` from the snapshot in use. `failing` has the start of each failure by ID.

    Times are seconds since the epoch.
    """

    snapshot: Snapshot
    failing: Mapping[str, FailingSince] = {}
    now: float = 0.0

    def of_served(self, integration: Integration) -> IntegrationStatus:
        """Return the status of an integration in the snapshot."""
        problem = integration_problem(self.snapshot, integration.id) if integration.stored else ""
        return status_of(integration, self.now, self.failing.get(integration.id), problem)

    def of_stored(self, row: IntegrationRow) -> IntegrationStatus:
        """Return the status of a row. The snapshot may not have it yet, or have its ID from a file."""
        if served_integration(self.snapshot, row.id, stored=False) is not None:
            return IntegrationStatus("unusable", shadowed_by_file("integration ID"))
        integration = served_integration(self.snapshot, row.id, stored=True)
        problem = integration_problem(self.snapshot, row.id) if row.verified else UNVERIFIED
        return status_of(integration, self.now, self.failing.get(row.id), problem)


def integration_problem(snapshot: Snapshot, name: str) -> str:
    """Return why a stored integration could not be built, or an empty string."""
    return "" if snapshot.stored is None else snapshot.stored.problems.get(name, "")


def served_integration(snapshot: Snapshot, name: str, *, stored: bool) -> Integration | None:
    """Return an integration of the snapshot if it is from the store (`stored`) or from a file (not `stored`)."""
    integration = snapshot.integrations.get(name)
    return integration if integration is not None and integration.stored == stored else None
