"""snapshot/status.py: one status for an integration, whatever is true of it at once."""

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

from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.snapshot import Integration, Stored
from sidekey.snapshot.status import EXPIRING, FAILING, STATUSES, IntegrationStatus, Status, changed_statuses, status_of
from support.plane import integration
from support.statuses import certified, unread, without_certificate

NOW = 1_800_000_000.0
DAY = 86_400
SINCE = int(NOW) - 600
PLAIN = integration("crm", "https://crm.test/v1")

CERTIFICATES: Mapping[str, Status] = {
    "none": "ok",
    "good": "ok",
    "ending": "expiring",
    "ended": "unusable",
    "read after its end": "unusable",
    "unread": "unusable",
    "not fetched": "unusable",
    "refused": "unusable",
}
"""Client certificates, and what is true of an integration because of each."""


class Facts(NamedTuple):
    """What is true of an integration."""

    problem: str
    certificate: str
    has_secret: bool
    fails: bool

    @property
    def true(self) -> set[Status]:
        found: set[Status] = {CERTIFICATES[self.certificate]}
        found |= set() if self.has_secret and not self.problem else {"unusable"}
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
                return replace(made, certificate=CertificateLoader(lambda *_: CertificateResult(None), urls=urls))
            case _:
                return made


FACTS = st.builds(
    Facts, st.sampled_from(["", "why"]), st.sampled_from(sorted(CERTIFICATES)), st.booleans(), st.booleans()
)


@given(FACTS)
def test_of_what_is_true_the_last_of_the_table_is_said(facts: Facts) -> None:
    """Whatever else is: the words are ordered once, and nothing else decides."""
    standing = status_of(facts.make(), NOW, SINCE if facts.fails else None, facts.problem)
    assert standing.status == max(facts.true, key=STATUSES.index)
    assert standing.usable == (facts.true <= {"ok", "expiring", "failing"})
    assert bool(standing.problem) == (standing.status != "ok")


def test_what_is_stored_and_not_served_has_the_problem_that_was_found() -> None:
    """One without was saved a moment ago."""
    assert status_of(None, NOW, problem="why") == IntegrationStatus("unusable", "why")
    assert status_of(None, NOW) == IntegrationStatus("ok")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            status_of(certified(PLAIN, NOW + DAY), NOW),
            "its client certificate expires on 2027-01-16 08:00 UTC: replace it and its key",
        ),
        (
            status_of(certified(PLAIN, NOW - DAY), NOW),
            "its client certificate expired on 2027-01-14 08:00 UTC: replace it and its key",
        ),
        (
            status_of(PLAIN, NOW, SINCE),
            "at least its last 3 requests have failed, the first on 2027-01-15 07:50 UTC: "
            "send its test request, or see the log",
        ),
        (status_of(unread(PLAIN, "auth.password: is empty"), NOW), "auth.password: is empty"),
        (status_of(without_certificate(PLAIN, "is not PEM"), NOW), "auth.certificate: is not PEM"),
    ],
    ids=["expiring", "expired", "failing", "no secret", "no certificate"],
)
def test_why_it_is_not_ok_is_told_with_what_to_do(found: IntegrationStatus, reason: str) -> None:
    assert found.problem == reason
    assert FAILING == 3


def test_times_are_told_whatever_is_said() -> None:
    """A certificate that ends later, and failures of one that has expired."""
    assert status_of(certified(PLAIN, NOW + 400 * DAY), NOW) == IntegrationStatus("ok", expires_at=NOW + 400 * DAY)
    standing = status_of(certified(PLAIN, NOW - 1), NOW, SINCE)
    assert (standing.status, standing.expires_at, standing.failing_since) == ("unusable", NOW - 1, SINCE)


def test_a_secret_that_can_be_read_again_is_no_more_missing() -> None:
    """In the same object: requests read it again."""
    missing = unread(PLAIN, "auth.password: is empty")
    assert status_of(missing, NOW).status == "unusable"
    missing.secrets.credential = PLAIN.secrets.credential
    assert status_of(missing, NOW).status == "ok"


@given(st.lists(FACTS, max_size=8))
def test_every_stored_integration_is_counted_once_by_its_word(facts: list[Facts]) -> None:
    """What is not looked at with each scrape stands as it was judged."""
    names = [f"i{number}" for number in range(len(facts))]
    problems = {name: each.problem for name, each in zip(names, facts, strict=True)}
    served = {name: replace(each.make(), id=name, stored=True) for name, each in zip(names, facts, strict=True)}
    failing = {name: SINCE for name, each in zip(names, facts, strict=True) if each.fails}
    stored = Stored(problems=problems, integrations=served)
    counts = Counter(ok=len(names) - stored.unusable, unusable=stored.unusable)
    for status in changed_statuses(stored, NOW, {**failing, "of-a-file": SINCE, "unknown": SINCE}):
        counts["ok"] -= 1
        counts[status] += 1
    expected = Counter(status_of(served[name], NOW, failing.get(name), problems[name]).status for name in names)
    assert +counts == expected


def test_only_what_may_change_is_looked_at() -> None:
    """Ten thousand with a secret alone cost a scrape nothing."""
    served = {f"i{number}": replace(PLAIN, id=f"i{number}") for number in range(100)}
    stored = Stored(problems=dict.fromkeys(served, ""), integrations=served)
    assert list(changed_statuses(stored, NOW, {})) == []
    assert list(changed_statuses(stored, NOW, {"i7": SINCE})) == ["failing"]


def test_a_certificate_expires_soon_when_its_alert_says_so() -> None:
    """One threshold for who looks and who is called."""
    alerts = (Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "alerts.yaml").read_text("utf-8")
    days = re.findall(r"certificate_expiry_timestamp_seconds:min - time\(\) < (\d+) \* 86400", alerts)
    assert max(map(int, days)) * DAY == EXPIRING
