"""admin/api/standings.py: what is known of an integration at one moment, and by whose name."""

from __future__ import annotations

from dataclasses import replace

from sidekey.admin.api.standings import Standings, judgement_of, served
from sidekey.runtime.snapshot import Judgement, Snapshot, Stored
from support.plane import integration
from support.standings import certified
from support.stored import BASIC, stored

NOW = 1_800_000_000.0
ROW = stored(BASIC)
OF_STORE = replace(integration("crm", "https://crm.test"), stored=True)
OF_FILE = integration("crm", "https://file.test")


def test_the_failures_of_an_id_are_those_of_who_is_served_by_it() -> None:
    """A file's hides the stored one of the same ID."""
    hidden = Stored(judgements={"crm": Judgement("hidden", "why")})
    of_file = Standings(Snapshot({"crm": OF_FILE}, stored=hidden), {"crm": 5}, NOW)
    assert (of_file.of_file(OF_FILE).state, of_file.of_file(OF_FILE).failing_since) == ("failing", 5)
    assert (of_file.of_stored(ROW).state, of_file.of_stored(ROW).failing_since) == ("hidden", None)
    alone = Stored(judgements={"crm": Judgement("ok")}, integrations={"crm": OF_STORE})
    assert Standings(Snapshot({"crm": OF_STORE}, stored=alone), {"crm": 5}, NOW).of_stored(ROW).state == "failing"


def test_the_moment_counts_for_certificates() -> None:
    bank = certified(OF_FILE, NOW)
    snapshot = Snapshot({"crm": bank})
    states = [Standings(snapshot, now=now).of_file(bank).state for now in (NOW - 30 * 86_400, NOW - 1, NOW)]
    assert states == ["ok", "expiring", "expired"]


def test_what_the_snapshot_does_not_know_yet_is_waited_for() -> None:
    """It was saved a moment ago, and cannot be used yet; a row that was altered since is told so."""
    for snapshot in (Snapshot({}), Snapshot({}, stored=Stored())):
        standing = Standings(snapshot, now=NOW).of_stored(ROW)
        assert (standing.state, standing.usable, standing.reason) == ("ok", False, "it was saved a moment ago")
        assert judgement_of(snapshot, "crm").reason == standing.reason
    known = Stored(judgements={"crm": Judgement("ok")}, integrations={"crm": OF_STORE})
    snapshot = Snapshot({"crm": OF_STORE}, stored=known)
    assert Standings(snapshot, now=NOW).of_stored(replace(ROW, state="altered")).state == "altered"


def test_what_is_served_is_asked_for_by_its_source() -> None:
    snapshot = Snapshot({"crm": OF_STORE})
    assert served(snapshot, "crm", stored=True) is OF_STORE
    assert served(snapshot, "crm", stored=False) is None
    assert served(snapshot, "other", stored=True) is None
