"""admin/api/standings.py: what is known of an integration at one moment, and by whose name."""

from __future__ import annotations

from dataclasses import replace

from sidekey.admin.api.standings import Standings, problem_of, served
from sidekey.runtime.snapshot import Snapshot, Stored
from support.plane import integration
from support.standings import certified
from support.stored import BASIC, stored

NOW = 1_800_000_000.0
ROW = stored(BASIC)
OF_STORE = replace(integration("crm", "https://crm.test"), stored=True)
OF_FILE = integration("crm", "https://file.test")


def test_the_failures_of_an_id_are_those_of_who_is_served_by_it() -> None:
    """A file's is served where the stored one has the same ID."""
    of_file = Standings(Snapshot({"crm": OF_FILE}, stored=Stored()), {"crm": 5}, NOW)
    assert (of_file.of_file(OF_FILE).status, of_file.of_file(OF_FILE).failing_since) == ("failing", 5)
    assert (of_file.of_stored(ROW).status, of_file.of_stored(ROW).failing_since) == ("unusable", None)
    assert of_file.of_stored(ROW).problem.startswith("a config file has the same integration ID")
    alone = Stored(problems={"crm": ""}, integrations={"crm": OF_STORE})
    assert Standings(Snapshot({"crm": OF_STORE}, stored=alone), {"crm": 5}, NOW).of_stored(ROW).status == "failing"


def test_the_moment_counts_for_certificates() -> None:
    bank = certified(OF_FILE, NOW)
    snapshot = Snapshot({"crm": bank})
    found = [Standings(snapshot, now=now).of_file(bank).status for now in (NOW - 30 * 86_400, NOW - 1, NOW)]
    assert found == ["ok", "expiring", "unusable"]


def test_what_the_snapshot_does_not_know_yet_is_ok() -> None:
    """It was saved a moment ago; a row that does not verify any more is unusable at once."""
    for snapshot in (Snapshot({}), Snapshot({}, stored=Stored())):
        standing = Standings(snapshot, now=NOW).of_stored(ROW)
        assert (standing.status, standing.problem, problem_of(snapshot, "crm")) == ("ok", "", "")
    known = Stored(problems={"crm": ""}, integrations={"crm": OF_STORE})
    snapshot = Snapshot({"crm": OF_STORE}, stored=known)
    standing = Standings(snapshot, now=NOW).of_stored(replace(ROW, verified=False))
    assert (standing.status, "something other than Sidekey" in standing.problem) == ("unusable", True)


def test_what_is_served_is_asked_for_by_its_source() -> None:
    snapshot = Snapshot({"crm": OF_STORE})
    assert served(snapshot, "crm", stored=True) is OF_STORE
    assert served(snapshot, "crm", stored=False) is None
    assert served(snapshot, "other", stored=True) is None
