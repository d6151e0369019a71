"""The status of an integration, for the API, the console, the commands and the metric.

Pure: time and failures of requests are arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, get_args

from sidekey.snapshot.snapshot import Integration

Status = Literal["ok", "expiring", "failing", "unusable"]
"""`expiring`: the client certificate ends within `EXPIRING_SECONDS`. `failing`: the last `FAILING_AFTER` requests
have failed, or Sidekey denied a connection to its host (`observe.usage` decides which failures count). `unusable`:
Sidekey sends no request with its credential.

If several apply, the one that is listed last is the status.
"""

Reason = Literal[
    "",
    "certificate_expires",
    "requests_failed",
    "destination_denied",
    "certificate_unfetched",
    "unreadable",
    "certificate_refused",
    "certificate_expired",
    "invalid",
]
"""Why the status is not `ok`, for the metric and for a command that has no `problem` of its own. Empty for `ok`."""

STATUSES: Final[tuple[Status, ...]] = get_args(Status)

EXPIRING_SECONDS: Final = 21 * 86_400
"""Seconds before its expiry at which a certificate becomes `expiring`, as in the alert
SidekeyCertificateExpiresSoon."""

FAILING_AFTER: Final = 3
"""Number of consecutive failures that make an integration `failing`."""

UNVERIFIED: Final = "something other than Sidekey changed its row: save it again, or delete it"
"""Problem of a stored integration or preset whose row has a wrong MAC."""


class FailingSince(NamedTuple):
    """The time of the first failure, in seconds since the epoch. `denied`: Sidekey may not connect to the host."""

    since: int
    denied: bool = False


class IntegrationStatus(NamedTuple):
    """The status of an integration, its `reason`, and for operators the `problem`: why it is not ok, and what to do.

    `expires_at` is the end of its client certificate, and `failing_since` the first of its consecutive failures. Both
    are in seconds since the epoch, and independent of the status.
    """

    status: Status
    problem: str = ""
    expires_at: float | None = None
    failing_since: int | None = None
    reason: Reason = ""

    @property
    def usable(self) -> bool:
        """Return True if Sidekey sends requests with its credential, so that a preset can use it."""
        return self.status != "unusable"


_OK: Final = IntegrationStatus("ok")


def status_of(
    integration: Integration | None,
    now: float,
    failing: FailingSince | None = None,
    problem: str = "",
    expires_at: float | None = None,
) -> IntegrationStatus:
    """Compute the status of an integration.

    `integration` is None for a stored integration that is not served, or was just saved.

    Times are in seconds since the epoch. `problem` is the reason why a stored integration could not be built.
    `failing` is set if the integration is failing. `expires_at` is for a command, which does not fetch the client
    certificate: the end of the one that the running Sidekey has.
    """
    if integration is None:
        return IntegrationStatus("unusable", problem, reason="invalid") if problem else _OK
    certificate = integration.certificate
    problem = problem or _find_policy_problem(integration)
    if expires_at is None and failing is None and not problem and _is_stable(integration):
        # The usual case, for almost all of ten thousand integrations.
        return _OK
    end = expires_at if certificate is None else certificate.expires_at
    status, reason, text = _status_and_problem(integration, end, now, failing, problem)
    return IntegrationStatus(status, text, end, None if failing is None else failing.since, reason)


def _is_stable(integration: Integration) -> bool:
    """Return True if the status depends only on failing requests."""
    return integration.certificate is None and integration.secrets.credential is not None


def _status_and_problem(
    integration: Integration, end: float | None, now: float, failing: FailingSince | None, problem: str
) -> tuple[Status, Reason, str]:
    certificate = integration.certificate
    if problem:
        return "unusable", "invalid", problem
    if end is not None and end <= now:
        text = f"its client certificate expired on {_format_time(end)}: replace it and its key"
        return "unusable", "certificate_expired", text
    if certificate is not None and certificate.refused_reason:
        return "unusable", "certificate_refused", certificate.refused_reason
    if not integration.usable:
        return "unusable", "unreadable", _unreadable_reason(integration)
    if certificate is not None and certificate.missing_reason:
        text = f"its client certificate was not fetched yet: {certificate.missing_reason}"
        return "unusable", "certificate_unfetched", text
    if failing is not None:
        reason: Reason = "destination_denied" if failing.denied else "requests_failed"
        return "failing", reason, _describe_failing(integration, failing)
    if end is not None and end - now < EXPIRING_SECONDS:
        text = f"its client certificate expires on {_format_time(end)}: replace it and its key"
        return "expiring", "certificate_expires", text
    return "ok", "", ""


def _find_policy_problem(integration: Integration) -> str:
    """Return why no request passes, or "". Files and rows of older versions may have such an integration."""
    uncovered = integration.policy.uncovered_prefixes()
    is_partial = len(uncovered) < len(integration.policy.prefixes)
    return "" if is_partial else "; ".join(dict.fromkeys(f"endpoint_prefix: {text}" for text in uncovered))


def _describe_failing(integration: Integration, failing: FailingSince) -> str:
    since = _format_time(failing.since)
    if failing.denied:
        key = "`store.allow_private`" if integration.stored else "its `allow_private`"
        return (
            f"Sidekey may not connect to its host, as a request on {since} has shown: change the URL, or list the "
            f"network in {key} if the host is meant to be there"
        )
    return (
        f"at least its last {FAILING_AFTER} requests have failed, the first on {since}: "
        "send its test request, or see the log"
    )


def _unreadable_reason(integration: Integration) -> str:
    """Return why the secrets, or else the client certificate, cannot be read."""
    secrets, certificate = integration.secrets, integration.certificate
    loader = certificate if certificate is not None and secrets.credential is not None else secrets
    return "its secrets have not been read yet" if loader.unreadable is None else str(loader.unreadable)


def status_of_preset(integration: IntegrationStatus | None, problem: str = "") -> IntegrationStatus:
    """Compute the status of a preset from that of its integration.

    `integration` is None if it does not exist. `problem` is the reason why the preset cannot be used.
    """
    if problem:
        return IntegrationStatus("unusable", problem, reason="invalid")
    if integration is None or integration.status in ("ok", "expiring"):
        return _OK
    verb = "cannot be used" if integration.status == "unusable" else "is failing"
    text = f"its integration {verb}: {integration.problem}"
    return IntegrationStatus(integration.status, text, reason=integration.reason)


def all_statuses(
    integrations: Mapping[str, Integration],
    problems: Mapping[str, str],
    now: float,
    failing: Mapping[str, FailingSince],
) -> Iterator[tuple[str, IntegrationStatus]]:
    """Yield the ID and status of each integration that is served, or that is stored and has a problem.

    `failing` has each failing integration by ID.
    """
    failing = dict(failing)
    for name, integration in integrations.items():
        yield name, status_of(integration, now, failing.get(name), problems.get(name, ""))
    for name, problem in problems.items():
        if problem and name not in integrations:
            yield name, status_of(None, now, problem=problem)


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
