"""`sidekey list`: the integrations of a config and of its store, how those stand, and what a running Sidekey adds."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

import click

from sidekey.cli.admin_client import NoResponse, get
from sidekey.cli.config import load, load_snapshot
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_result, table, terminal_width
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import IntegrationStatus, Status, status_of

_TIMEOUT: Final = 10.0
"""Seconds for a page, which takes one or two where there are ten thousand integrations. Prometheus waits as long."""
_MAX_METRICS_SIZE: Final = 64 << 20
"""Bytes of metrics that are read: those of some ten thousand integrations."""

# prometheus_client sorts the labels, and writes numbers from a million on as 1.5e+06. Its parser would take two seconds
# for ten thousand integrations.
_REQUESTS: Final = re.compile(
    r'^sidekey_requests_total\{integration="([a-z0-9_-]+)",[^}\n]*\} (\d{1,16}(?:\.\d{1,18})?(?:e\+\d\d)?)$', re.M
)
_EXPIRIES: Final = re.compile(
    r'^sidekey_credential_expiry_timestamp_seconds\{credential="(token|certificate)",integration="([a-z0-9_-]+)"\} '
    r"(\d(?:\.\d{1,18})?e\+(?:0\d|10))$",
    re.M,
)
_FAILING: Final = re.compile(
    r'^sidekey_integration_failing_since_timestamp_seconds\{integration="([a-z0-9_-]+)"\} '
    r"(\d(?:\.\d{1,18})?e\+(?:0\d|10))$",
    re.M,
)
_OURS: Final = "sidekey_build_info"

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
_ALWAYS: Final = 4
"""Columns that are there also where all of their cells are empty."""
_SHORT: Final = 7
"""Columns that stay columns where a terminal is too narrow for all; what the others hold goes below."""


ListedStatus = Status | Literal["unknown"]
"""`unknown`: the config has nothing against the integration, and no running Sidekey says how its requests end."""


class ListedIntegration(NamedTuple):
    """One ID. `integration` is None for one of the store that is not served, and has no other to stand for it."""

    id: str
    status: ListedStatus
    standing: IntegrationStatus
    integration: Integration | None


@dataclass(frozen=True, slots=True)
class RunningStatus:
    """What a running Sidekey says by ID: requests since its start, since when they fail, and when credentials expire.

    Moments are in seconds since the epoch. Where it does not say, `reason` tells why.
    """

    counted: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, float] = field(default_factory=dict)
    failing: Mapping[str, int] = field(default_factory=dict)
    certificates: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def requests(self, name: str) -> int | None:
        """How many requests for an ID there were; None where it is not known."""
        return None if self.reason else self.counted.get(name, 0)


def listed(
    snapshot: Snapshot, running: RunningStatus, *, now: float, usable: bool, tags: Collection[str] = ()
) -> list[ListedIntegration]:
    """All with these `tags` by ID, or those of them that are `usable`, at `now` (seconds since the epoch)."""
    problems = {} if snapshot.stored is None else snapshot.stored.problems
    found = []
    for name in sorted({*snapshot.integrations, *problems}):
        integration = snapshot.integrations.get(name)
        if tags and (integration is None or not set(tags) <= set(integration.tags)):
            continue
        standing = _standing(name, integration, problems.get(name, ""), running, now)
        status: ListedStatus = "unknown" if running.reason and standing.status == "ok" else standing.status
        if standing.usable or not usable:
            found.append(ListedIntegration(name, status, standing, integration))
    return found


def _standing(
    name: str, integration: Integration | None, problem: str, running: RunningStatus, now: float
) -> IntegrationStatus:
    """Judge one integration by what the config and the running Sidekey know."""
    since, ends = running.failing.get(name), running.certificates.get(name)
    certificate = None if integration is None else integration.certificate
    if integration is None or certificate is None or not certificate.pending or (ends is None and not running.reason):
        return status_of(integration, now, since, problem)
    # A command does not fetch a client certificate from its URL: only the running Sidekey knows its end.
    return status_of(replace(integration, certificate=None), now, since, problem, ends)


def ask(snapshot: Snapshot) -> RunningStatus:
    """What the running Sidekey of this config says, by the metrics listener, else by the admin one."""
    where, tls = snapshot.listen.metrics, False
    if where is None:
        where, tls = snapshot.listen.admin, snapshot.has_api and snapshot.admin.certificate is not None
    if where.path is None and where.port == 0:
        return RunningStatus(reason="port 0 is chosen at start: write another port for listen.metrics or listen.admin")
    try:
        response = get(where, "/metrics", tls=tls, timeout=_TIMEOUT, most=_MAX_METRICS_SIZE)
    except NoResponse as error:
        return RunningStatus(reason=str(error))
    if response.status in (401, 403):
        return RunningStatus(reason=f"{where} asks for an operator's token: add listen.metrics, which does not")
    text = response.body.decode("utf-8", "replace")
    if response.status != 200 or _OURS not in text:
        return RunningStatus(reason=f"what listens at {where} is not Sidekey")
    counted: Counter[str] = Counter()
    for name, count in _REQUESTS.findall(text):
        counted[name] += int(float(count))
    expiries: dict[str, dict[str, float]] = {"token": {}, "certificate": {}}
    for credential, name, moment in _EXPIRIES.findall(text):
        expiries[credential][name] = float(moment)
    failing = {name: int(float(moment)) for name, moment in _FAILING.findall(text)}
    return RunningStatus(counted, expiries["token"], failing, expiries["certificate"])


def lines(found: Sequence[ListedIntegration], running: RunningStatus, width: int | None = None) -> list[str]:
    """The list for people, for a terminal of a `width` if there is one."""
    if not found:
        return []
    rows = [_TITLES, *(tuple(_cells(each, running)) for each in found)]
    shown = [index for index in range(len(_TITLES)) if index < _ALWAYS or any(row[index] for row in rows[1:])]
    whole = table([[row[index] for index in shown] for row in rows])
    if width is None or max(map(len, whole)) <= width:
        return whole
    below = [[], *([text for text in row[_SHORT:] if text] for row in rows[1:])]
    return table([[row[index] for index in shown if index < _SHORT] for row in rows], width, below)


def _cells(each: ListedIntegration, running: RunningStatus) -> Iterator[str]:
    integration, standing = each.integration, each.standing
    yield each.id
    yield "-" if integration is None else integration.kind
    yield "-" if integration is None or integration.base is None else str(integration.base)
    yield each.status
    ends = {"certificate": standing.expires_at, "token": running.tokens.get(each.id)}
    yield ", ".join(f"{what} {_moment(moment):%Y-%m-%d %H:%M}" for what, moment in ends.items() if moment is not None)
    yield "" if integration is None else ", ".join(integration.tags)
    requests = running.requests(each.id)
    yield "" if requests is None else str(requests)
    yield "" if integration is None else ", ".join(f"{name}: {text}" for name, text in integration.public_headers)
    yield standing.problem
    yield "" if integration is None else integration.description


def described(each: ListedIntegration, running: RunningStatus) -> dict[str, Any]:
    """One of the list for machines."""
    integration = each.integration
    problem = running.reason if each.status == "unknown" else each.standing.problem
    return {
        "id": each.id,
        "kind": None if integration is None else integration.kind,
        "source": "store" if integration is None or integration.stored else "file",
        "status": each.status,
        "problem": problem or None,
        "base": None if integration is None or integration.base is None else str(integration.base),
        "description": "" if integration is None else integration.description,
        "tags": [] if integration is None else list(integration.tags),
        "headers": {} if integration is None else dict(integration.public_headers),
        "usable": each.standing.usable,
        "expires_at": _instant(each.standing.expires_at),
        "token_expires_at": _instant(running.tokens.get(each.id)),
        "requests": running.requests(each.id),
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else f"{_moment(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _complete_tag(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    found = load(context.params.get("config")).snapshot
    every = () if found is None else (tag for each in found.integrations.values() for tag in each.tags)
    return sorted({tag for tag in every if tag.startswith(begun)})


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
    From the metrics of a running Sidekey with this config (listen.metrics, else listen.admin), the command reads which
    integrations are failing, the number of requests since the start, and when tokens expire. Without these metrics,
    the status is `unknown` instead of `ok`.
    """
    snapshot = load_snapshot(config)
    running = ask(snapshot)
    found = listed(snapshot, running, now=time.time(), usable=usable, tags=tags)
    shown = lines(found, running, terminal_width())
    print_result([described(each, running) for each in found], shown, as_json=as_json)
    if running.reason and not as_json:
        click.echo(f"note: status `unknown`, no request counts and no token expiry: {running.reason}", err=True)
