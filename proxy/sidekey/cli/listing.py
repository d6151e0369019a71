"""`sidekey list`: the integrations of a config and of its store, and how those stand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from sidekey.cli.loading import load_snapshot
from sidekey.cli.options import config_option, json_option
from sidekey.cli.terminal import print_json, table
from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.runtime.standing import Standing, standing_of


class Listed(NamedTuple):
    """One ID. `integration` is None for one of the store that is not served, and has no other to stand for it."""

    id: str
    standing: Standing
    integration: Integration | None


def listed(snapshot: Snapshot, *, now: float, usable: bool) -> list[Listed]:
    """All by ID, or those that are `usable`, at `now` (seconds since the epoch). Nothing is known here of requests."""
    judgements = {} if snapshot.stored is None else snapshot.stored.judgements
    found = []
    for name in sorted({*snapshot.integrations, *judgements}):
        integration = snapshot.integrations.get(name)
        if integration is not None and (not integration.stored or name not in judgements):
            standing = standing_of(integration, now)
        else:
            standing = standing_of(integration, now, judgement=judgements[name])
        if standing.usable or not usable:
            found.append(Listed(name, standing, integration))
    return found


def lines(found: Sequence[Listed]) -> list[str]:
    """The list for people."""
    return table([_row(each) for each in found])


def _row(each: Listed) -> tuple[str, str, str, str]:
    wrong = [f"{each.standing.state}: {each.standing.reason}"] if each.standing.reason else []
    integration = each.integration
    if integration is None:
        return each.id, "-", "-", " ".join(wrong)
    tags = [f"[{', '.join(integration.tags)}]"] if integration.tags else []
    about = " ".join([*wrong, *tags, integration.description]).strip()
    return each.id, integration.kind, str(integration.base or "-"), about


def described(each: Listed) -> dict[str, Any]:
    """One of the list for machines."""
    integration, ends = each.integration, each.standing.expires_at
    return {
        "id": each.id,
        "kind": None if integration is None else integration.kind,
        "source": "store" if integration is None or integration.stored else "file",
        "status": each.standing.state,
        "reason": each.standing.reason or None,
        "base": None if integration is None or integration.base is None else str(integration.base),
        "description": "" if integration is None else integration.description,
        "tags": [] if integration is None else list(integration.tags),
        "usable": each.standing.usable,
        "expires_at": None if ends is None else f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


@click.command()
@config_option
@json_option
@click.option(
    "--usable", is_flag=True, help="Omit integrations that cannot be used: without a secret, expired, not served."
)
def command(config: str | None, as_json: bool, usable: bool) -> None:
    """List the integrations and how each stands.

    Those of files and of the store, each with ID, kind, base URL, how it stands, tags and description.
    """
    found = listed(load_snapshot(config), now=time.time(), usable=usable)
    if as_json:
        print_json([described(each) for each in found])
        return
    for line in lines(found):
        click.echo(line)
