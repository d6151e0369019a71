"""`sidekey list`: the integrations of a config and of its store, and how those stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sidekey.runtime.snapshot import Integration, Judgement, Snapshot
from sidekey.terminal import table

_WELL = Judgement("ok")
"""How each of a file stands: with another the config would be refused."""


class Listed(NamedTuple):
    """One ID. `integration` is None for one of the store that is not served, and has no other to stand for it."""

    id: str
    judgement: Judgement
    integration: Integration | None


def listed(snapshot: Snapshot, *, usable: bool) -> list[Listed]:
    """All by ID, or those that are `usable`: whose secrets and certificate can be used."""
    judgements = {} if snapshot.stored is None else snapshot.stored.judgements
    found = []
    for name in sorted({*snapshot.integrations, *judgements}):
        integration = snapshot.integrations.get(name)
        of_file = integration is not None and not integration.stored
        if not usable or (integration is not None and integration.usable):
            judgement = _WELL if of_file else judgements.get(name, _WELL)
            found.append(Listed(name, judgement, integration))
    return found


def lines(found: Sequence[Listed]) -> list[str]:
    """The list for people."""
    return table([_row(each) for each in found])


def _row(each: Listed) -> tuple[str, str, str, str]:
    wrong = [f"{each.judgement.state}: {each.judgement.reason}"] if each.judgement.reason else []
    integration = each.integration
    if integration is None:
        return each.id, "-", "-", " ".join(wrong)
    tags = [f"[{', '.join(integration.tags)}]"] if integration.tags else []
    about = " ".join([*wrong, *tags, integration.description]).strip()
    return each.id, integration.kind, str(integration.base or "-"), about


def as_json(each: Listed) -> dict[str, Any]:
    """One of the list for machines."""
    integration = each.integration
    return {
        "id": each.id,
        "kind": None if integration is None else integration.kind,
        "source": "store" if integration is None or integration.stored else "file",
        "status": each.judgement.state,
        "reason": each.judgement.reason or None,
        "base": None if integration is None or integration.base is None else str(integration.base),
        "description": "" if integration is None else integration.description,
        "tags": [] if integration is None else list(integration.tags),
        "usable": integration is not None and integration.usable,
    }
