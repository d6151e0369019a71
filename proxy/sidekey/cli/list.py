"""`sidekey list`: list the integrations of the config and the store, with the status that a running Sidekey reports."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click

from sidekey.cli.config import load, load_snapshot
from sidekey.cli.options import config_option, json_option
from sidekey.cli.running_status import ListedStatus, RunningStatus, read_running_status, status_with
from sidekey.cli.terminal import print_result, table, terminal_width
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import IntegrationStatus

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


class ListedIntegration(NamedTuple):
    """A listed integration. `integration` is None if it is stored and not served."""

    id: str
    status: ListedStatus
    details: IntegrationStatus
    integration: Integration | None


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
        details = status_with(running, name, integration, problems.get(name, ""), now)
        is_unknown = details.status == "ok" and bool(running.missing_reason(name))
        if is_unknown:
            details = details._replace(problem=running.missing_reason(name))
        if details.usable or not usable:
            result.append(ListedIntegration(name, "unknown" if is_unknown else details.status, details, integration))
    return result


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
