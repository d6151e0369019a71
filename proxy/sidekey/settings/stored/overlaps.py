"""Stored integrations whose targets another one covers: where a caller names none, whose they are is not clear."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sidekey.core import matching
from sidekey.core.callers import Caller
from sidekey.core.matching import Narrowed, Overlap
from sidekey.core.policy import Policy
from sidekey.runtime.snapshot import Integration, Snapshot


def overlaps(
    policies: Mapping[str, Policy], stored: Collection[str], callers: Collection[Caller], stored_at: frozenset[str]
) -> Iterator[Overlap]:
    """Pairs of which one at least is `stored`, and which both count for one caller by the hosts of targets alone.

    A stored one counts at the host names `stored_at` and under them, for the callers that list it.
    """
    if not stored_at or not stored:
        return

    def counts(caller: Caller, name: str) -> bool:
        return caller.lists(name) if name in stored else caller.may_use(name)

    def together(first: str, second: str) -> bool:
        if first not in stored and second not in stored:
            return False
        return any(counts(caller, first) and counts(caller, second) for caller in callers)

    yield from matching.overlaps(policies, together, Narrowed(stored, stored_at))


def losers(found: Iterator[Overlap], age: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Return the stored integrations that are not served because of these, and why: of two, the younger one.

    `age` has the creation time and row ID of stored ones, by ID; one of a file is served in any case.
    """
    lost: dict[str, str] = {}
    for overlap in sorted(found):
        pair = [name for name in (overlap.first, overlap.second) if name in age and name not in lost]
        whole = len(pair) == len({overlap.first, overlap.second} & age.keys())
        if pair and whole:
            later = max(pair, key=lambda name: age[name])
            other = overlap.second if later == overlap.first else overlap.first
            lost[later] = f"covers {overlap.where} as integration {other} does, and one caller lists both: narrow one"
    return lost


def overlap_of(snapshot: Snapshot, integration: Integration) -> Overlap | None:
    """Return where an integration, once it is saved, would cover what another does."""
    return next(iter(overlaps_beside(snapshot, {integration.id: integration}, {})), None)


def overlap_for(snapshot: Snapshot, caller: Caller) -> Overlap | None:
    """Return which two integrations, once a caller is saved, would cover the same target for it."""
    return next(iter(overlaps_beside(snapshot, {}, {caller.name: caller})), None)


def overlaps_beside(
    snapshot: Snapshot, integrations: Mapping[str, Integration], callers: Mapping[str, Caller]
) -> list[Overlap]:
    """Return what these integrations and callers, once all of them are saved, would cover twice.

    Nothing is covered twice now: the losers are not served.
    """
    if snapshot.matching is None:
        return []
    known = {**snapshot.integrations, **integrations}
    policies = {name: each.policy for name, each in known.items() if each.rebuild is None}
    stored = frozenset(name for name, each in known.items() if each.stored)
    present = {each.name: each for each in (snapshot.callers or {}).values()}
    return sorted({*overlaps(policies, stored, {**present, **callers}.values(), frozenset(snapshot.ca.hosts))})
