"""api/statuses.py: the status of integrations at one moment."""

from __future__ import annotations

from dataclasses import replace

from sidekey.api.statuses import StatusView, integration_problem
from sidekey.snapshot.snapshot import Snapshot, Stored
from support.plane import integration
from support.stored import BASIC, stored

NOW = 1_800_000_000.0
ROW = stored(BASIC)
OF_STORE = replace(integration("crm", "https://crm.test"), stored=True)


def test_row_that_the_snapshot_lacks_is_ok() -> None:
    """It was saved a moment ago. A row that no longer verifies is unusable at once."""
    for snapshot in (Snapshot({}), Snapshot({}, stored=Stored())):
        standing = StatusView(snapshot, now=NOW).of_stored(ROW)
        assert (standing.status, standing.problem, integration_problem(snapshot, "crm")) == ("ok", "", "")
    known = Stored(problems={"crm": ""}, integrations={"crm": OF_STORE})
    snapshot = Snapshot({"crm": OF_STORE}, stored=known)
    standing = StatusView(snapshot, now=NOW).of_stored(replace(ROW, verified=False))
    assert (standing.status, "something other than Sidekey" in standing.problem) == ("unusable", True)
