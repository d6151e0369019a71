"""`sidekey list`: list the integrations of the config and the store, with the status that a running Sidekey reports."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, cast, get_args

import click

from sidekey.cli.admin_client import NoResponse, get
from sidekey.cli.config import load, load_snapshot
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_result, table, terminal_width
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

_TITLES: Final = (
    "ID",
    "KIND",
    "BASE",
    "STATUS",
    "EXPIRES (UTC)",
    "TAGS",
    "REQUESTS",
    "HEADERS",
    "PROBLEM",
    "DESCRIPTION",
)
_FIXED_COLUMNS: Final = 4
"""The first columns, which a table has even if all of their cells are empty."""
_NARROW_COLUMNS: Final = 7
"""The first columns, which a narrow terminal shows side by side. Other cells go into lines below the row."""


ListedStatus = Status | Literal["unknown"]
"""`unknown`: the config has no problem with the integration, and no running Sidekey reports its status."""


class ListedIntegration(NamedTuple):
    """A listed integration. `integration` is None if it is stored and not served."""

    id: str
    status: ListedStatus
    details: IntegrationStatus
    integration: Integration | None


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


def list_integrations(
    snapshot: Snapshot, running: RunningStatus, *, now: float, usable: bool, tags: Collection[str] = ()
) -> list[ListedIntegration]:
    """List integrations that have all `tags`, sorted by ID; with `usable`, only usable ones.

    `now` is in seconds since the epoch.
    """
    problems = {} if snapshot.stored is None else snapshot.stored.problems
    result = []
    for name in sorted({*snapshot.integrations, *problems}):
        integration = snapshot.integrations.get(name)
        if tags and (integration is None or not set(tags) <= set(integration.tags)):
            continue
        details = _status(name, integration, problems.get(name, ""), running, now)
        is_unknown = details.status == "ok" and bool(running.missing_reason(name))
        if is_unknown:
            details = details._replace(problem=running.missing_reason(name))
        if details.usable or not usable:
            result.append(ListedIntegration(name, "unknown" if is_unknown else details.status, details, integration))
    return result


def _status(
    name: str, integration: Integration | None, problem: str, running: RunningStatus, now: float
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
        return details._replace(status="ok", problem="") if _needs_commands_only(integration) else details
    status, reason = reported
    if reported == (details.status, details.reason):
        return details
    # The running Sidekey has values that the config has no more, or lacks one that it will read.
    text = "" if status == "ok" else _UNLIKE_HERE.format(reason)
    return details._replace(status=status, problem=text, reason=reason)


def _needs_commands_only(integration: Integration | None) -> bool:
    """Return True if the only problem is that this command runs no program that writes a secret."""
    unreadable = None if integration is None else integration.secrets.unreadable
    return unreadable is not None and all(kind_of(reason) == "absent" for _, reason in unreadable.reasons)


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


def lines(items: Sequence[ListedIntegration], running: RunningStatus, width: int | None = None) -> list[str]:
    """Format the list as a table, at most `width` columns wide unless it is None."""
    if not items:
        return []
    rows = [_TITLES, *(tuple(_cells(item, running)) for item in items)]
    columns = [index for index in range(len(_TITLES)) if index < _FIXED_COLUMNS or any(row[index] for row in rows[1:])]
    wide = table([[row[index] for index in columns] for row in rows])
    if width is None or max(map(len, wide)) <= width:
        return wide
    below = [[], *([text for text in row[_NARROW_COLUMNS:] if text] for row in rows[1:])]
    return table([[row[index] for index in columns if index < _NARROW_COLUMNS] for row in rows], width, below)


def _cells(item: ListedIntegration, running: RunningStatus) -> Iterator[str]:
    integration, details = item.integration, item.details
    yield item.id
    yield "-" if integration is None else integration.kind
    yield "-" if integration is None or integration.base is None else str(integration.base)
    yield item.status
    expiries = {"certificate": details.expires_at, "token": running.token_expiries.get(item.id)}
    yield ", ".join(
        f"{credential} {_utc(timestamp):%Y-%m-%d %H:%M}"
        for credential, timestamp in expiries.items()
        if timestamp is not None
    )
    yield "" if integration is None else ", ".join(integration.tags)
    requests = running.requests(item.id)
    yield "" if requests is None else str(requests)
    yield "" if integration is None else ", ".join(f"{name}: {text}" for name, text in integration.public_headers)
    # The note below the table says why statuses are unknown.
    yield "" if item.status == "unknown" and running.reason else details.problem
    yield "" if integration is None else integration.description


def describe(item: ListedIntegration, running: RunningStatus) -> dict[str, Any]:
    """Build the JSON of a listed integration."""
    integration = item.integration
    return {
        "id": item.id,
        "kind": None if integration is None else integration.kind,
        "source": "store" if integration is None or integration.stored else "file",
        "status": item.status,
        "problem": item.details.problem or None,
        "base": None if integration is None or integration.base is None else str(integration.base),
        "description": "" if integration is None else integration.description,
        "tags": [] if integration is None else list(integration.tags),
        "headers": {} if integration is None else dict(integration.public_headers),
        "usable": item.details.usable,
        "expires_at": _instant(item.details.expires_at),
        "token_expires_at": _instant(running.token_expiries.get(item.id)),
        "requests": running.requests(item.id),
    }


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else f"{_utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _complete_tag(context: click.Context, _: click.Parameter, prefix: str) -> list[str]:
    snapshot = load(context.params.get("config")).snapshot
    all_tags = (
        () if snapshot is None else (tag for integration in snapshot.integrations.values() for tag in integration.tags)
    )
    return sorted({tag for tag in all_tags if tag.startswith(prefix)})


@click.command()
@config_option
@json_option
@click.option(
    "--tag",
    "tags",
    metavar="TAG",
    multiple=True,
    shell_complete=_complete_tag,
    help="Show only integrations with this tag. Repeat it for each one.",
)
@click.option(
    "--usable", is_flag=True, help="Omit integrations that cannot be used: without a secret, expired or not served."
)
def command(config: str | None, as_json: bool, tags: tuple[str, ...], usable: bool) -> None:
    """List the integrations with their status.

    The list has the integrations of files and of the store, with ID, kind, base URL of the reverse proxy, status,
    tags, public header values and description. Integrations with the status `ok`, `expiring` or `failing` can be used.
    From the metrics of a running Sidekey with this config (listen.metrics, else listen.admin), the command reads the
    status, the number of requests since the start, and when tokens expire. Without these metrics, the status is that
    of the config alone, and `unknown` instead of `ok`.
    """
    snapshot = load_snapshot(config)
    running = read_running_status(snapshot)
    items = list_integrations(snapshot, running, now=time.time(), usable=usable, tags=tags)
    print_result([describe(item, running) for item in items], lines(items, running, terminal_width()), as_json=as_json)
    if running.reason and not as_json:
        click.echo(f"note: status `unknown`, no request counts and no token expiry: {running.reason}", err=True)
