"""The status of an integration with any combination of problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.snapshot.certificate_loader import CertificateLoader, CertificateResult
from sidekey.snapshot.snapshot import Integration
from sidekey.snapshot.status import (
    EXPIRING_SECONDS,
    FAILING_AFTER,
    STATUSES,
    FailingSince,
    IntegrationStatus,
    Status,
    status_of,
)
from support.plane import integration
from support.statuses import with_certificate, with_unreadable_secrets, without_certificate

NOW = 1_800_000_000.0
DAY = 86_400
SINCE = FailingSince(int(NOW) - 600)
DENIED = SINCE._replace(denied=True)
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
"""Client certificates, and the status that each causes."""


class Conditions(NamedTuple):
    problem: str
    certificate: str
    has_secret: bool
    fails: bool

    @property
    def statuses(self) -> set[Status]:
        statuses: set[Status] = {CERTIFICATES[self.certificate]}
        statuses |= set() if self.has_secret and not self.problem else {"unusable"}
        return statuses | ({"failing"} if self.fails else set())

    def build(self) -> Integration:
        crm = PLAIN if self.has_secret else with_unreadable_secrets(PLAIN, "auth.password: /run/crm does not exist")
        match self.certificate:
            case "good":
                return with_certificate(crm, NOW + EXPIRING_SECONDS)
            case "ending":
                return with_certificate(crm, NOW + EXPIRING_SECONDS - 1)
            case "ended":
                return with_certificate(crm, NOW)
            case "read after its end":
                return with_certificate(crm, NOW - DAY, read_at=NOW)
            case "unread":
                return without_certificate(crm, "/run/tls.crt does not exist")
            case "refused":
                return without_certificate(crm, "is not PEM", refused=True)
            case "not fetched":
                urls = ((("auth", "certificate"), "https://vault.test"),)
                return replace(crm, certificate=CertificateLoader(lambda *_: CertificateResult(None), urls=urls))
            case _:
                return crm


CONDITIONS = st.builds(
    Conditions, st.sampled_from(["", "why"]), st.sampled_from(sorted(CERTIFICATES)), st.booleans(), st.booleans()
)


@given(CONDITIONS)
def test_worst_condition_decides_the_status(conditions: Conditions) -> None:
    """`STATUSES` is their order."""
    result = status_of(conditions.build(), NOW, SINCE if conditions.fails else None, conditions.problem)
    assert result.status == max(conditions.statuses, key=STATUSES.index)
    assert result.usable == (conditions.statuses <= {"ok", "expiring", "failing"})
    assert bool(result.problem) == bool(result.reason) == (result.status != "ok")


def test_unserved_integration_has_its_problem() -> None:
    """Without a problem, it was saved a moment ago."""
    assert status_of(None, NOW, problem="why") == IntegrationStatus("unusable", "why", reason="invalid")
    assert status_of(None, NOW) == IntegrationStatus("ok")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            status_of(with_certificate(PLAIN, NOW + DAY), NOW),
            "its client certificate expires on 2027-01-16 08:00 UTC: replace it and its key",
        ),
        (
            status_of(with_certificate(PLAIN, NOW - DAY), NOW),
            "its client certificate expired on 2027-01-14 08:00 UTC: replace it and its key",
        ),
        (
            status_of(PLAIN, NOW, SINCE),
            "at least its last 3 requests have failed, the first on 2027-01-15 07:50 UTC: "
            "send its test request, or see the log",
        ),
        (
            status_of(PLAIN, NOW, DENIED),
            "Sidekey may not connect to its host, as a request on 2027-01-15 07:50 UTC has shown: change the URL, or "
            "list the network in its `allow_private` if the host is meant to be there",
        ),
        (status_of(with_unreadable_secrets(PLAIN, "auth.password: is empty"), NOW), "auth.password: is empty"),
        (status_of(without_certificate(PLAIN, "is not PEM"), NOW), "auth.certificate: is not PEM"),
    ],
    ids=["expiring", "expired", "failing", "denied", "no secret", "no certificate"],
)
def test_problem_says_what_to_do(status: IntegrationStatus, reason: str) -> None:
    assert status.problem == reason
    assert FAILING_AFTER == 3


def test_times_are_independent_of_the_status() -> None:
    assert status_of(with_certificate(PLAIN, NOW + 400 * DAY), NOW) == IntegrationStatus(
        "ok", expires_at=NOW + 400 * DAY
    )
    result = status_of(with_certificate(PLAIN, NOW - 1), NOW, SINCE)
    assert (result.status, result.expires_at, result.failing_since) == ("unusable", NOW - 1, SINCE.since)


def test_status_follows_a_secret_that_appears() -> None:
    """The integration is the same object, because requests load the secret again."""
    missing = with_unreadable_secrets(PLAIN, "auth.password: is empty")
    assert status_of(missing, NOW).status == "unusable"
    missing.secrets.credential = PLAIN.secrets.credential
    assert status_of(missing, NOW).status == "ok"


def test_expiring_has_the_threshold_of_its_alert() -> None:
    alerts = (Path(__file__).parents[2] / "helm" / "sidekey" / "files" / "alerts.yaml").read_text("utf-8")
    days = re.findall(r"certificate_expiry_timestamp_seconds:min - time\(\) < (\d+) \* 86400", alerts)
    assert max(map(int, days)) * DAY == EXPIRING_SECONDS
