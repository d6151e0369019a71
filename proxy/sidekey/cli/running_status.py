"""The status of integrations as a running Sidekey reports it, for commands that list integrations or presets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast, get_args

from sidekey.cli.admin_client import NoResponse, get
from sidekey.config.secrets import kind_of
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import STATUSES, FailingSince, IntegrationStatus, Reason, Status, status_of

_TIMEOUT: Final = 10.0
"""Seconds until a scrape times out, as in Prometheus. With ten thousand integrations, one takes one or two seconds."""
_MAX_METRICS_SIZE: Final = 64 << 20
"""Maximum bytes of metrics, enough for some ten thousand integrations."""

# prometheus_client sorts the labels, and formats a million and more as 1.5e+06. Its parser would take two seconds for
# ten thousand integrations.
_REQUESTS: Final = re.compile(
    r'^sidekey_requests_total\{integration="([a-z0-9_-]+)",[^}\n]*\} (\d{1,16}(?:\.\d{1,18})?(?:e\+\d\d)?)$', re.M
)
_EXPIRIES: Final = re.compile(
    r'^sidekey_credential_expiry_timestamp_seconds\{credential="(token|certificate)",integration="([a-z0-9_-]+)"\} '
    r"(\d(?:\.\d{1,18})?e\+(?:0\d|10))$",
    re.M,
)
_STATUSES: Final = re.compile(
    r'^sidekey_integration_status\{integration="([a-z0-9_-]+)",'
    rf'reason="({"|".join(get_args(Reason))})",status="({"|".join(STATUSES)})"\}} 1\.0$',
    re.M,
)
_FAILING: Final = re.compile(
    r'^sidekey_integration_failing_since_timestamp_seconds\{integration="([a-z0-9_-]+)"\} '
    r"(\d(?:\.\d{1,18})?e\+(?:0\d|10))$",
    re.M,
)
_BUILD_INFO: Final = "sidekey_build_info"

ListedStatus = Status | Literal["unknown"]
"""`unknown`: the config has no problem with the integration, and no running Sidekey reports its status."""


_NOT_LOADED: Final = "the running Sidekey does not have it: its log has the errors of the last reload"
_UNLIKE_HERE: Final = "the running Sidekey reports `{}`: its log has the reason"


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """Metrics of a running Sidekey by ID: `statuses` have a reason. Times are in seconds since the epoch.

    `reason` says why there are no metrics, or is empty.
    """

    request_counts: Mapping[str, int] = field(default_factory=dict)
    token_expiries: Mapping[str, float] = field(default_factory=dict)
    failing_since: Mapping[str, int] = field(default_factory=dict)
    certificate_expiries: Mapping[str, float] = field(default_factory=dict)
    statuses: Mapping[str, tuple[Status, Reason]] = field(default_factory=dict)
    reason: str = ""

    def missing_reason(self, name: str) -> str:
        """Return why the status of an integration is not known, or an empty string."""
        return self.reason or ("" if name in self.statuses else _NOT_LOADED)

    def requests(self, name: str) -> int | None:
        """Return the number of requests since the start, or None if it is unknown."""
        return None if self.reason else self.request_counts.get(name, 0)


def status_with(
    running: RunningStatus, name: str, integration: Integration | None, problem: str, now: float
) -> IntegrationStatus:
    """Return the status that the running Sidekey reports, or else that of the config alone."""
    since, expires_at = running.failing_since.get(name), running.certificate_expiries.get(name)
    reported = running.statuses.get(name)
    is_denied = reported is not None and reported[1] == "destination_denied"
    failing = None if since is None else FailingSince(since, is_denied)
    if integration is not None and integration.certificate is not None and integration.certificate.pending:
        # A command does not fetch client certificates from URLs. Only the running Sidekey knows their expiry.
        if expires_at is not None or running.reason:
            integration = replace(integration, certificate=None)
    else:
        expires_at = None
    details = status_of(integration, now, failing, problem, expires_at)
    if reported is None:
        # A program may write the secret for a Sidekey that runs elsewhere.
        return details._replace(status="ok", problem="") if _needs_commands_only(integration, details) else details
    status, reason = reported
    if reported == (details.status, details.reason):
        return details
    # The running Sidekey has values that the config has no more, or lacks one that it will read.
    text = "" if status == "ok" else _UNLIKE_HERE.format(reason)
    return details._replace(status=status, problem=text, reason=reason)


def _needs_commands_only(integration: Integration | None, details: IntegrationStatus) -> bool:
    """Return True if the only problem is that this command runs no program that writes a secret."""
    unreadable = None if integration is None else integration.secrets.unreadable
    return (
        unreadable is not None
        and details.reason == "unreadable"
        and str(unreadable) in details.problem
        and all(kind_of(reason) == "absent" for _, reason in unreadable.reasons)
    )


def read_running_status(snapshot: Snapshot) -> RunningStatus:
    """Read metrics from the running Sidekey, at the metrics or the admin listener."""
    address, tls = snapshot.listen.metrics, False
    if address is None:
        address, tls = snapshot.listen.admin, snapshot.has_api and snapshot.admin.certificate is not None
    if address.path is None and address.port == 0:
        reason = (
            "with port 0 the system chooses a port at the start: set another port for listen.metrics or listen.admin"
        )
        return RunningStatus(reason=reason)
    try:
        response = get(address, "/metrics", tls=tls, timeout=_TIMEOUT, max_size=_MAX_METRICS_SIZE)
    except NoResponse as error:
        return RunningStatus(reason=str(error))
    if response.status in (401, 403):
        return RunningStatus(reason=f"{address} requires an operator's token: add listen.metrics, which does not")
    text = response.body.decode("utf-8", "replace")
    if response.status != 200 or _BUILD_INFO not in text:
        return RunningStatus(reason=f"the listener at {address} is not Sidekey")
    return parse_metrics(text)


def parse_metrics(text: str) -> RunningStatus:
    """Parse the metrics page of a running Sidekey."""
    request_counts: Counter[str] = Counter()
    for name, count in _REQUESTS.findall(text):
        request_counts[name] += int(float(count))
    expiries: dict[str, dict[str, float]] = {"token": {}, "certificate": {}}
    for credential, name, timestamp in _EXPIRIES.findall(text):
        expiries[credential][name] = float(timestamp)
    failing = {name: int(float(timestamp)) for name, timestamp in _FAILING.findall(text)}
    statuses = {
        name: (cast("Status", status), cast("Reason", reason)) for name, reason, status in _STATUSES.findall(text)
    }
    return RunningStatus(request_counts, expiries["token"], failing, expiries["certificate"], statuses)
