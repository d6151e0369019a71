"""runtime/standing.py: one word for how an integration stands, whatever is true of it at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.credentials.certificates.loader import CertificateLoader, Reading
from sidekey.runtime.snapshot import STORED_STATES, Integration, Judgement, Stored, StoredState
from sidekey.runtime.standing import EXPIRING, FAILING, STATES, Standing, State, changed_states, standing_of
from support.plane import integration
from support.standings import certified, unread, without_certificate

NOW = 1_800_000_000.0
DAY = 86_400
SINCE = int(NOW) - 600
PLAIN = integration("crm", "https://crm.test/v1")

CERTIFICATES: Mapping[str, State] = {
    "none": "ok",
    "good": "ok",
    "ending": "expiring",
    "ended": "expired",
    "read after its end": "expired",
    "unread": "secret_missing",
    "not fetched": "not_fetched",
    "refused": "invalid",
}
"""Client certificates, and what is true of an integration because of each."""


class Facts(NamedTuple):
    """What is true of an integration."""

    judgement: StoredState
    certificate: str
    has_secret: bool
    fails: bool

    @property
    def true(self) -> set[State]:
        if self.judgement != "ok":
            # What was judged when it was built comes before all that was found since.
            return {self.judgement}
        found: set[State] = {CERTIFICATES[self.certificate]}
        found |= set() if self.has_secret else {"secret_missing"}
        return found | ({"failing"} if self.fails else set())

    def make(self) -> Integration:
        made = PLAIN if self.has_secret else unread(PLAIN, "auth.password: /run/crm does not exist")
        match self.certificate:
            case "good":
                return certified(made, NOW + EXPIRING)
            case "ending":
                return certified(made, NOW + EXPIRING - 1)
            case "ended":
                return certified(made, NOW)
            case "read after its end":
                return certified(made, NOW - DAY, read_at=NOW)
            case "unread":
                return without_certificate(made, "/run/tls.crt does not exist")
            case "refused":
                return without_certificate(made, "is not PEM", refused=True)
            case "not fetched":
                urls = ((("auth", "certificate"), "https://vault.test"),)
                return replace(made, certificate=CertificateLoader(lambda *_: Reading(None), urls=urls))
            case _:
                return made


FACTS = st.builds(
    Facts, st.sampled_from(STORED_STATES), st.sampled_from(sorted(CERTIFICATES)), st.booleans(), st.booleans()
)


@given(FACTS)
def test_of_what_is_true_the_last_of_the_table_is_said(facts: Facts) -> None:
    """Whatever else is: the words are ordered once, and nothing else decides."""
    standing = standing_of(facts.make(), NOW, SINCE if facts.fails else None, Judgement(facts.judgement, "why"))
    assert standing.state == max(facts.true, key=STATES.index)
    assert standing.usable == (facts.true <= {"ok", "expiring", "failing"})
    assert bool(standing.reason) or standing.state == "ok"


@given(FACTS)
def test_one_of_a_file_stands_as_a_stored_one_that_was_built_well(facts: Facts) -> None:
    of_file = replace(facts.make(), stored=False)
    since = SINCE if facts.fails else None
    assert standing_of(of_file, NOW, since) == standing_of(of_file, NOW, since, Judgement("ok"))


def test_what_is_stored_and_not_served_stands_as_it_was_judged() -> None:
    """Nobody's requests are its own, and it may not be chosen."""
    assert standing_of(None, NOW, judgement=Judgement("hidden", "why")) == Standing("hidden", "why", usable=False)
    assert standing_of(None, NOW, judgement=Judgement("ok", "just now")) == Standing("ok", "just now", usable=False)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (standing_of(certified(PLAIN, NOW + DAY), NOW), "its client certificate expires on 2027-01-16 08:00 UTC"),
        (standing_of(certified(PLAIN, NOW - DAY), NOW), "its client certificate expired on 2027-01-14 08:00 UTC"),
        (standing_of(PLAIN, NOW, SINCE), "at least its last 3 requests have failed, the first on 2027-01-15 07:50 UTC"),
        (standing_of(unread(PLAIN, "auth.password: is empty"), NOW), "auth.password: is empty"),
        (standing_of(without_certificate(PLAIN, "is not PEM"), NOW), "auth.certificate: is not PEM"),
    ],
    ids=["expiring", "expired", "failing", "no secret", "no certificate"],
)
def test_why_it_does_not_stand_well_is_told_in_words(found: Standing, reason: str) -> None:
    assert found.reason == reason
    assert FAILING == 3


def test_times_are_told_whatever_is_said() -> None:
    """A certificate that ends later, and failures of one that has expired."""
    assert standing_of(certified(PLAIN, NOW + 400 * DAY), NOW) == Standing("ok", expires_at=NOW + 400 * DAY)
    standing = standing_of(certified(PLAIN, NOW - 1), NOW, SINCE)
    assert (standing.state, standing.expires_at, standing.failing_since) == ("expired", NOW - 1, SINCE)


def test_a_secret_that_can_be_read_again_is_no_more_missing() -> None:
    """In the same object: requests read it again."""
    missing = unread(PLAIN, "auth.password: is empty")
    assert standing_of(missing, NOW).state == "secret_missing"
    missing.secrets.credential = PLAIN.secrets.credential
    assert standing_of(missing, NOW).state == "ok"


@given(st.lists(FACTS, max_size=8))
def test_every_stored_integration_is_counted_once_by_its_word(facts: list[Facts]) -> None:
    """What is not looked at with each scrape stands as it was judged."""
    names = [f"i{number}" for number in range(len(facts))]
    judgements = {name: Judgement(each.judgement, "why") for name, each in zip(names, facts, strict=True)}
    served = {name: replace(each.make(), id=name, stored=True) for name, each in zip(names, facts, strict=True)}
    failing = {name: SINCE for name, each in zip(names, facts, strict=True) if each.fails}
    stored = Stored(judgements=judgements, integrations=served)
    counts = Counter(dict(stored.counts))
    for state in changed_states(stored, NOW, {**failing, "of-a-file": SINCE, "unknown": SINCE}):
        counts["ok"] -= 1
        counts[state] += 1
    expected = Counter(standing_of(served[name], NOW, failing.get(name), judgements[name]).state for name in names)
    assert +counts == expected


def test_only_what_may_change_is_looked_at() -> None:
    """Ten thousand with a secret alone cost a scrape nothing."""
    served = {f"i{number}": replace(PLAIN, id=f"i{number}") for number in range(100)}
    stored = Stored(judgements=dict.fromkeys(served, Judgement("ok")), integrations=served)
    assert list(changed_states(stored, NOW, {})) == []
    assert list(changed_states(stored, NOW, {"i7": SINCE})) == ["failing"]


def test_a_certificate_expires_soon_when_its_alert_says_so() -> None:
    """One threshold for who looks and who is called."""
    alerts = (Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "alerts.yaml").read_text("utf-8")
    days = re.findall(r"certificate_expiry_timestamp_seconds:min - time\(\) < (\d+) \* 86400", alerts)
    assert max(map(int, days)) * DAY == EXPIRING
