"""Stored integrations whose targets another one covers: where a caller names none, whose they are is not clear."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sidekey.core import matching
from sidekey.core.matching import Narrowed, Overlap
from sidekey.core.policy import Policy
from sidekey.runtime.snapshot import Caller


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


def hidden_by(found: Iterator[Overlap], age: Mapping[str, tuple[int, str]]) -> dict[str, str]:
    """Which stored integrations are not served because of these, and why: of two the one that was saved later.

    `age` is when a stored one was saved, by ID; one of a file is served in any case.
    """
    hidden: dict[str, str] = {}
    for overlap in sorted(found):
        pair = [name for name in (overlap.first, overlap.second) if name in age and name not in hidden]
        whole = len(pair) == len({overlap.first, overlap.second} & age.keys())
        if pair and whole:
            later = max(pair, key=lambda name: age[name])
            other = overlap.second if later == overlap.first else overlap.first
            hidden[later] = f"covers {overlap.where} as integration {other} does, and one caller lists both: narrow one"
    return hidden
