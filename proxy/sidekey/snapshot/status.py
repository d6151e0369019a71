"""The status of an integration, for the API, the console, the commands and the metric.

Pure: time and failures of requests are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, get_args

from sidekey.snapshot.snapshot import Integration, StoredObjects

Status = Literal["ok", "expiring", "failing", "unusable"]
"""`expiring`: the client certificate ends within `EXPIRING_SECONDS`. `failing`: the last `FAILING_AFTER` requests
have failed (`observe.usage` decides which failures count). `unusable`: Sidekey sends no request with its credential.

If several apply, the one that is listed last is the status.
"""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

EXPIRING_SECONDS: Final = 21 * 86_400
"""Seconds before its expiry at which a certificate becomes `expiring`, as in the alert
SidekeyCertificateExpiresSoon."""

FAILING_AFTER: Final = 3
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
    """Compute the status of an integration.

    `integration` is None for a stored integration that is not served, or was just saved.

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
    status, text = _status_and_problem(integration, end, now, failing_since, problem)
    return IntegrationStatus(status, text, end, failing_since)


def _status_and_problem(
    integration: Integration, end: float | None, now: float, failing_since: int | None, problem: str
) -> tuple[Status, str]:
    certificate = integration.certificate
    if problem:
        return "unusable", problem
    if end is not None and end <= now:
        return "unusable", f"its client certificate expired on {_format_time(end)}: replace it and its key"
    if certificate is not None and certificate.refused_reason:
        return "unusable", certificate.refused_reason
    if not integration.usable:
        return "unusable", _unreadable_reason(integration)
    if certificate is not None and certificate.missing_reason:
        return "unusable", f"its client certificate was not fetched yet: {certificate.missing_reason}"
    if failing_since is not None:
        return (
            "failing",
            f"at least its last {FAILING_AFTER} requests have failed, the first on {_format_time(failing_since)}: "
            "send its test request, or see the log",
        )
    if end is not None and end - now < EXPIRING_SECONDS:
        return "expiring", f"its client certificate expires on {_format_time(end)}: replace it and its key"
    return "ok", ""


def _unreadable_reason(integration: Integration) -> str:
    """Return why the secrets, or else the client certificate, cannot be read."""
    secrets, certificate = integration.secrets, integration.certificate
    loader = certificate if certificate is not None and secrets.credential is not None else secrets
    return "its secrets have not been read yet" if loader.unreadable is None else str(loader.unreadable)


def uncertain_statuses(stored: StoredObjects, now: float, failing: Mapping[str, int]) -> Iterator[Status]:
    """Yield the status of each stored integration without a problem that may not be `ok`.

    The metric counts all other integrations as `ok` without a look at them. `failing` has the first failure of each
    failing integration, by ID.
    """
    for name, volatile in stored.volatile.items():
        yield status_of(volatile, now, failing.get(name)).status
    for name, since in failing.items():
        integration = stored.find_stable(name)
        if integration is not None:
            yield status_of(integration, now, since).status


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
