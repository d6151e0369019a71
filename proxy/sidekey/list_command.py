"""`sidekey list`: the integrations of a config and of its store, and how those stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sidekey.runtime.snapshot import Integration, Snapshot
from sidekey.runtime.standing import Standing, standing_of
from sidekey.terminal import table


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


def as_json(each: Listed) -> dict[str, Any]:
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
