"""The status of an integration, for the API, the console, the commands and the metric.

Pure: time and failures of requests are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, get_args

from sidekey.snapshot.snapshot import Integration, Stored

Status = Literal["ok", "expiring", "failing", "unusable"]
"""`expiring`: the client certificate ends within `EXPIRING`. `failing`: the last `FAILING` requests have failed
(`observe.usage` decides which failures count). `unusable`: Sidekey sends no request with its credential.

If several apply, the one that is listed last is the status.
"""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

EXPIRING: Final = 21 * 86_400
"""Seconds before its end when a certificate becomes `expiring`, as in the alert SidekeyCertificateExpiresSoon."""

FAILING: Final = 3
"""Number of consecutive failures that make an integration `failing`."""

UNVERIFIED: Final = "something other than Sidekey changed its row: save it again, or delete it"
"""Problem of a stored integration or preset whose row has a wrong MAC."""


class IntegrationStatus(NamedTuple):
    """The status of an integration, and for operators the `problem`: why it is not ok, and what to do.

    `expires_at` is the end of its client certificate, and `failing_since` the first of its consecutive failures. Both
    are in seconds since the epoch, and independent of the status.
    """

    status: Status
    problem: str = ""
    expires_at: float | None = None
    failing_since: int | None = None

    @property
    def usable(self) -> bool:
        """Return True if Sidekey sends requests with its credential, so that a preset can use it."""
        return self.status != "unusable"


_OK: Final = IntegrationStatus("ok")


def status_of(
    integration: Integration | None,
    now: float,
    failing_since: int | None = None,
    problem: str = "",
    expires_at: float | None = None,
) -> IntegrationStatus:
    """Compute the status of an integration. None is a stored one that is not served, or that was just saved.

    Times are in seconds since the epoch. `problem` is the reason why a stored integration could not be built.
    `failing_since` is set if the integration is failing. `expires_at` is for a command, which does not fetch the client
    certificate: the end of the one that the running Sidekey has.
    """
    if integration is None:
        return IntegrationStatus("unusable", problem) if problem else _OK
    secrets, certificate = integration.secrets, integration.certificate
    is_simple = not problem and certificate is None and failing_since is None and expires_at is None
    if is_simple and secrets.credential is not None:
        # The usual case, for almost all of ten thousand integrations.
        return _OK
    end = expires_at if certificate is None else certificate.expires_at
    status, text = _decide(integration, end, now, failing_since, problem)
    return IntegrationStatus(status, text, end, failing_since)


def _decide(
    integration: Integration, end: float | None, now: float, failing_since: int | None, problem: str
) -> tuple[Status, str]:
    certificate = integration.certificate
    if problem:
        return "unusable", problem
    if end is not None and end <= now:
        return "unusable", f"its client certificate expired on {_format_time(end)}: replace it and its key"
    if certificate is not None and certificate.refused:
        return "unusable", certificate.refused
    if not integration.usable:
        return "unusable", _unreadable_reason(integration)
    if certificate is not None and certificate.not_fetched:
        return "unusable", f"its client certificate was not fetched yet: {certificate.not_fetched}"
    if failing_since is not None:
        return (
            "failing",
            f"at least its last {FAILING} requests have failed, the first on {_format_time(failing_since)}: "
            "send its test request, or see the log",
        )
    if end is not None and end - now < EXPIRING:
        return "expiring", f"its client certificate expires on {_format_time(end)}: replace it and its key"
    return "ok", ""


def _unreadable_reason(integration: Integration) -> str:
    """Return why the secrets, or else the client certificate, cannot be read."""
    secrets, certificate = integration.secrets, integration.certificate
    loader = certificate if certificate is not None and secrets.credential is not None else secrets
    return "its secrets have not been read yet" if loader.unreadable is None else str(loader.unreadable)


def changed_statuses(stored: Stored, now: float, failing: Mapping[str, int]) -> Iterator[Status]:
    """Yield the status of each stored integration without a problem that may not be `ok`.

    The metric counts all other ones without a look at them. `failing` has the first failure of each failing
    integration, by ID.
    """
    for name, integration in stored.unsettled.items():
        yield status_of(integration, now, failing.get(name)).status
    for name, since in failing.items():
        settled = stored.settled(name)
        if settled is not None:
            yield status_of(settled, now, since).status


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
