"""Overlapping integrations: which of two is served, and which saves cause an overlap."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from types import MappingProxyType

import pytest

from sidekey.ca.authorities import CaRules
from sidekey.config.stored.build import (
    find_new_overlaps,
    find_overlaps,
    first_overlap_of_caller,
    first_overlap_of_integration,
    shadowed_integrations,
)
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
    ("callers", "at", "overlapping"),
    [
        ([BOTH], AT, True),
        ([Caller("all", None)], AT, False),
        ([Caller("s", frozenset({"s"})), Caller("f", frozenset({"f"}))], AT, False),
        ([], AT, False),
        ([BOTH], frozenset(), False),
        ([BOTH], frozenset({"b.in.test"}), False),
    ],
)
def test_stored_integration_overlaps_only_for_callers_that_list_it(
    callers: list[Caller], at: frozenset[str], overlapping: bool
) -> None:
    """Only at the operator's hosts."""
    expected = [Overlap("f", "s", "https://a.in.test/x/y")] if overlapping else []
    assert list(find_overlaps(POLICIES, {"s", "t"}, callers, at)) == expected


def test_two_integrations_of_files_are_ignored() -> None:
    """The check of the config reports them."""
    assert list(find_overlaps(POLICIES, {"t"}, [BOTH], AT)) == []
    assert list(find_overlaps(POLICIES, set(), [BOTH], AT)) == []


def test_younger_integration_is_shadowed_and_shadows_no_other() -> None:
    """In a chain of three, only one is shadowed."""
    chain = [Overlap("a", "b", "1"), Overlap("b", "c", "2")]
    assert list(shadowed_integrations(iter(chain), {"a": (1, "a"), "b": (2, "b"), "c": (3, "c")})) == ["b"]
    assert list(shadowed_integrations(iter(chain), {"a": (1, "a"), "b": (1, "b"), "c": (0, "c")})) == ["b"]
    assert list(shadowed_integrations(iter([Overlap("a", "b", "1")]), {"b": (1, "b")})) == ["b"]
    assert list(shadowed_integrations(iter([Overlap("a", "b", "1")]), {"a": (9, "a")})) == ["a"]


def test_saving_an_integration_or_a_caller_reports_the_overlap() -> None:
    first = replace(integration("one", "https://a.in.test/x"), stored=True)
    second = replace(integration("two", "https://a.in.test/x/y"), stored=True)
    caller = Caller("c", frozenset({"one", "two"}))
    digest = sha256(b"t").digest()
    snapshot = Snapshot(
        MappingProxyType({"one": first}),
        callers={digest: caller},
        ca=CaRules(hosts=("in.test",)),
        matching=Matching(),
    )
    assert first_overlap_of_integration(snapshot, second) == Overlap("one", "two", "https://a.in.test/x/y")
    assert first_overlap_of_integration(snapshot, replace(second, policy=Policy())) is None
    assert first_overlap_of_integration(replace(snapshot, matching=None), second) is None
    assert first_overlap_of_integration(replace(snapshot, callers={}), second) is None
    with_both = replace(snapshot, integrations={"one": first, "two": second}, callers=None)
    assert first_overlap_of_caller(with_both, caller) == Overlap("one", "two", "https://a.in.test/x/y")
    assert first_overlap_of_caller(with_both, Caller("c", frozenset({"one"}))) is None
    assert first_overlap_of_integration(with_both, first) is None


def test_objects_that_are_saved_together_are_checked_together() -> None:
    """New integrations are checked against each other and the stored ones, for new callers too."""
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
    assert find_new_overlaps(snapshot, {"two": two}, {}) == [first]
    assert find_new_overlaps(snapshot, {"two": two, "three": three}, {"d": all_three}) == [
        Overlap("one", "three", "https://a.in.test/x/y/z"),
        first,
        Overlap("three", "two", "https://a.in.test/x/y/z"),
    ]
    assert find_new_overlaps(snapshot, {"two": two}, {"c": Caller("c", frozenset({"one"}))}) == []
    assert find_new_overlaps(replace(snapshot, matching=None), {"two": two}, {}) == []
    unlisted = replace(snapshot, integrations={"one": one, "two": two}, callers={})
    assert find_new_overlaps(unlisted, {}, {"c": both}) == [first]
