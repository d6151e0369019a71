"""Whose a target is, where two integrations of a caller cover it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

import pytest

from sidekey.ca.authorities import CaRules
from sidekey.config.stored.build import overlap_for, overlap_of, overlaps, overlaps_beside, shadowed_integrations
from sidekey.policy.callers import Caller
from sidekey.policy.match import Matching, Overlap
from sidekey.policy.targets import Policy, parse_prefix
from sidekey.snapshot.snapshot import Snapshot
from support.plane import integration

AT = frozenset({"in.test"})
POLICIES = {
    name: Policy(prefixes=(parse_prefix(f"https://a.in.test/{path}"),))
    for name, path in (("f", "x"), ("s", "x/y"), ("t", "z"))
}
BOTH = Caller("both", frozenset({"f", "s", "t"}))


@pytest.mark.parametrize(
    ("callers", "at", "found"),
    [
        ([BOTH], AT, True),
        ([Caller("all", None)], AT, False),
        ([Caller("s", frozenset({"s"})), Caller("f", frozenset({"f"}))], AT, False),
        ([], AT, False),
        ([BOTH], frozenset(), False),
        ([BOTH], frozenset({"b.in.test"}), False),
    ],
)
def test_two_count_for_a_caller_that_lists_the_stored_one(
    callers: list[Caller], at: frozenset[str], found: bool
) -> None:
    """At the operator's hosts."""
    expected = [Overlap("f", "s", "https://a.in.test/x/y")] if found else []
    assert list(overlaps(POLICIES, {"s", "t"}, callers, at)) == expected


def test_two_of_files_are_not_judged_here() -> None:
    """The config's own check has."""
    assert list(overlaps(POLICIES, {"t"}, [BOTH], AT)) == []
    assert list(overlaps(POLICIES, set(), [BOTH], AT)) == []


def test_the_later_one_is_hidden_and_what_it_covered_is_free_again() -> None:
    """A chain of three hides one of them."""
    chain = [Overlap("a", "b", "1"), Overlap("b", "c", "2")]
    assert list(shadowed_integrations(iter(chain), {"a": (1, "a"), "b": (2, "b"), "c": (3, "c")})) == ["b"]
    assert list(shadowed_integrations(iter(chain), {"a": (1, "a"), "b": (1, "b"), "c": (0, "c")})) == ["b"]
    assert list(shadowed_integrations(iter([Overlap("a", "b", "1")]), {"b": (1, "b")})) == ["b"]
    assert list(shadowed_integrations(iter([Overlap("a", "b", "1")]), {"a": (9, "a")})) == ["a"]


def test_a_save_is_told_what_it_would_cover() -> None:
    """An integration, or a caller that would list two."""
    one = replace(integration("one", "https://a.in.test/x"), stored=True)
    two = replace(integration("two", "https://a.in.test/x/y"), stored=True)
    caller = Caller("c", frozenset({"one", "two"}))
    digest = sha256(b"t").digest()
    snapshot = Snapshot(
        MappingProxyType({"one": one}),
        callers={digest: caller},
        ca=CaRules(hosts=("in.test",)),
        matching=Matching(),
    )
    assert overlap_of(snapshot, two) == Overlap("one", "two", "https://a.in.test/x/y")
    assert overlap_of(snapshot, replace(two, policy=Policy())) is None
    assert overlap_of(replace(snapshot, matching=None), two) is None
    assert overlap_of(replace(snapshot, callers={}), two) is None
    whole = replace(snapshot, integrations={"one": one, "two": two}, callers=None)
    assert overlap_for(whole, caller) == Overlap("one", "two", "https://a.in.test/x/y")
    assert overlap_for(whole, Caller("c", frozenset({"one"}))) is None
    assert overlap_of(whole, one) is None


def test_what_is_saved_together_is_judged_together() -> None:
    """New ones against each other and what is there, for callers that are new as well."""
    one = replace(integration("one", "https://a.in.test/x"), stored=True)
    two = replace(integration("two", "https://a.in.test/x/y"), stored=True)
    three = replace(integration("three", "https://a.in.test/x/y/z"), stored=True)
    both, all_three = Caller("c", frozenset({"one", "two"})), Caller("d", frozenset({"one", "two", "three"}))
    snapshot = Snapshot(
        MappingProxyType({"one": one}),
        callers={sha256(b"t").digest(): both},
        ca=CaRules(hosts=("in.test",)),
        matching=Matching(),
    )
    first = Overlap("one", "two", "https://a.in.test/x/y")
    assert overlaps_beside(snapshot, {"two": two}, {}) == [first]
    assert overlaps_beside(snapshot, {"two": two, "three": three}, {"d": all_three}) == [
        Overlap("one", "three", "https://a.in.test/x/y/z"),
        first,
        Overlap("three", "two", "https://a.in.test/x/y/z"),
    ]
    assert overlaps_beside(snapshot, {"two": two}, {"c": Caller("c", frozenset({"one"}))}) == []
    assert overlaps_beside(replace(snapshot, matching=None), {"two": two}, {}) == []
    unlisted = replace(snapshot, integrations={"one": one, "two": two}, callers={})
    assert overlaps_beside(unlisted, {}, {"c": both}) == [first]
