"""The status of an integration: the same one in the API, the console, the commands and the metric.

Pure: the time and what is known of requests are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, get_args

from sidekey.snapshot.snapshot import Integration, Stored

Status = Literal["ok", "expiring", "failing", "unusable"]
"""`expiring`: its client certificate ends within `EXPIRING`. `failing`: its last `FAILING` requests have failed
(`observe.traffic` says which count). `unusable`: no request is sent with its credential. The last one that applies.
"""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

EXPIRING: Final = 21 * 86_400
"""Seconds before its end from which on a certificate is `expiring`, as in the alert SidekeyCertificateExpiresSoon."""

FAILING: Final = 3
"""Failures one after another, from which on an integration is failing."""

UNVERIFIED: Final = "something other than Sidekey changed its row: save it again, or delete it"
"""Problem of a stored integration or preset whose MAC does not verify."""


class IntegrationStatus(NamedTuple):
    """The status of an integration, and for operators its `problem`: why it is not ok, and what to do.

    `expires_at` is the end of its client certificate, if known; `failing_since` the first of its last failures. Both
    are in seconds since the epoch, whatever its status is.
    """

    status: Status
    problem: str = ""
    expires_at: float | None = None
    failing_since: int | None = None

    @property
    def usable(self) -> bool:
        """Return True if requests are sent with its credential, so that a preset can have it."""
        return self.status != "unusable"


_OK: Final = IntegrationStatus("ok")


def status_of(
    integration: Integration | None,
    now: float,
    failing_since: int | None = None,
    problem: str = "",
    ends_at: float | None = None,
) -> IntegrationStatus:
    """Judge an integration at `now` (seconds since the epoch). None: it is stored, and not served.

    `problem` was found when a stored one was built. `failing_since` is the time since which requests for its ID fail,
    if they do. `ends_at` is the end of a client certificate that only another process holds.
    """
    if integration is None:
        return IntegrationStatus("unusable", problem) if problem else _OK
    secrets, certificate = integration.secrets, integration.certificate
    plain = not problem and certificate is None and failing_since is None and ends_at is None
    if plain and secrets.credential is not None:
        # Almost all of ten thousand.
        return _OK
    ends = ends_at if certificate is None else certificate.ends_at
    status, text = _judge(integration, ends, now, failing_since, problem)
    return IntegrationStatus(status, text, ends, failing_since)


def _judge(
    integration: Integration, ends: float | None, now: float, failing_since: int | None, problem: str
) -> tuple[Status, str]:
    certificate = integration.certificate
    if problem:
        return "unusable", problem
    if ends is not None and ends <= now:
        return "unusable", f"its client certificate expired on {_moment(ends)}: replace it and its key"
    if certificate is not None and certificate.refused:
        return "unusable", certificate.refused
    if not integration.usable:
        return "unusable", _unreadable(integration)
    if certificate is not None and certificate.not_fetched:
        return "unusable", f"its client certificate was not fetched yet: {certificate.not_fetched}"
    if failing_since is not None:
        return (
            "failing",
            f"at least its last {FAILING} requests have failed, the first on {_moment(failing_since)}: "
            "send its test request, or see the log",
        )
    if ends is not None and ends - now < EXPIRING:
        return "expiring", f"its client certificate expires on {_moment(ends)}: replace it and its key"
    return "ok", ""


def _unreadable(integration: Integration) -> str:
    """Say which part of one that is not usable cannot be read, and why."""
    secrets, certificate = integration.secrets, integration.certificate
    held = certificate if certificate is not None and secrets.credential is not None else secrets
    return "its secrets have not been read yet" if held.unreadable is None else str(held.unreadable)


def changed_statuses(stored: Stored, now: float, failing: Mapping[str, int]) -> Iterator[Status]:
    """Yield the present status of each stored integration without a problem when it was built, unless it is surely ok.

    `failing` has the times since which integrations are failing, by ID.
    """
    for name, integration in stored.unsettled.items():
        yield status_of(integration, now, failing.get(name)).status
    for name, since in failing.items():
        settled = stored.settled(name)
        if settled is not None:
            yield status_of(settled, now, since).status


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
