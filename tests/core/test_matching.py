"""Whose a host is, and which policies must not stand together."""

from __future__ import annotations

import pytest

from sidekey.core.matching import Matching, Narrowed, Overlap, is_under, overlaps
from sidekey.core.policy import Policy, parse_domain, parse_prefix
from sidekey.core.urls import Origin


def policy(*prefixes: str, domains: tuple[str, ...] = (), path: str = "", stand_in: str = "") -> Policy:
    """A policy by its texts."""
    return Policy(
        tuple(map(parse_prefix, prefixes)),
        tuple(map(parse_domain, domains)),
        path=path,
        stand_in=Origin("https", stand_in, 443) if stand_in else None,
    )


def test_hosts_and_suffixes_are_found() -> None:
    matching = Matching.of(
        {
            "a": policy("https://x.test/a", "https://x.test/b", "https://y.test"),
            "b": policy("https://x.test/c"),
            "c": policy(domains=("https://*.wild.test",)),
            "d": policy(domains=("https://auth.test", "https://*.inst.test"), stand_in="auth.test"),
        }
    )
    assert matching.at("x.test") == ["a", "b"]
    assert matching.at("y.test") == ["a"]
    assert matching.at("p.q.wild.test") == ["c"]
    assert matching.at("wild.test") == []
    assert matching.at("auth.test") == ["d"]
    assert matching.at("z.inst.test") == [], "what a grant may tell is not matched"
    assert matching.at("test") == []


ROOT, SEGMENT = "https://x.test", "https://x.test/a"


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (policy(ROOT), policy(SEGMENT), "https://x.test/a"),
        (policy(SEGMENT), policy(SEGMENT), "https://x.test/a"),
        (policy(SEGMENT), policy("https://x.test/a/b/c"), "https://x.test/a/b/c"),
        (policy(SEGMENT), policy("https://x.test/ab"), None),
        (policy(SEGMENT), policy("https://x.test/b"), None),
        (policy(ROOT), policy("https://x.test:8443"), None),
        (policy(ROOT), policy("https://y.test"), None),
        (policy(ROOT), policy("http://x.test/a"), "http://x.test/a"),
        (policy(ROOT), policy("http://x.test:8080"), None),
        (policy(ROOT, "http://x.test/b"), policy("http://x.test/c"), None),
        (policy(SEGMENT), policy(domains=("https://*.test.test",)), None),
        (policy("https://p.x.test/a"), policy(domains=("https://*.x.test",)), "https://p.x.test/a"),
        (policy(domains=("https://p.x.test",)), policy(domains=("https://*.x.test",)), "https://p.x.test"),
        (policy(domains=("https://*.p.x.test",)), policy(domains=("https://*.x.test",)), "https://*.p.x.test"),
        (policy(ROOT), policy(domains=("https://*.x.test",)), None),
        (policy("http://p.x.test/a"), policy(domains=("https://*.x.test",)), "http://p.x.test/a"),
        (policy(ROOT, domains=("https://y.test",)), policy(ROOT), None),
        (policy(SEGMENT, path="/a/b"), policy("https://x.test/a/c"), None),
        (policy(SEGMENT, path="/a/b"), policy("https://x.test/a/b"), "https://x.test/a/b"),
        (policy(domains=("https://x.test",), stand_in="x.test"), policy(SEGMENT), "https://x.test/a"),
    ],
)
def test_two_policies_that_cover_one_target(one: Policy, other: Policy, where: str | None) -> None:
    """In either order; http is the same target where it is upgraded."""
    wanted = [] if where is None else [Overlap("a", "b", where)]
    for policies in ({"a": one, "b": other}, {"b": other, "a": one}):
        found = list(overlaps(policies, lambda *_: True))
        assert [(each.first, each.second) for each in found] == [(each.first, each.second) for each in wanted]
        assert all(each.where.split("://")[1] == str(where).split("://")[1] for each in found)
        assert list(overlaps(policies, lambda *_: False)) == []


def test_many_integrations_at_one_host_are_compared_quickly() -> None:
    """By what they share, not each with each: ten thousand would be fifty million pairs."""
    asked = 0

    def together(_: str, __: str) -> bool:
        nonlocal asked
        asked += 1
        return True

    policies = {f"i{number}": policy(f"https://x.test/{number}/v1") for number in range(2000)}
    assert list(overlaps(policies, together)) == []
    assert asked == 0


@pytest.mark.parametrize(
    ("host", "hosts", "under"),
    [
        ("a.test", {"a.test"}, True),
        ("x.a.test", {"a.test"}, True),
        ("y.x.a.test", {"a.test", "b.test"}, True),
        ("xa.test", {"a.test"}, False),
        ("test", {"a.test"}, False),
        ("a.test", set(), False),
    ],
)
def test_a_host_is_under_a_name(host: str, hosts: set[str], under: bool) -> None:
    """At label boundaries."""
    assert is_under(host, hosts) is under


def test_what_is_narrowed_is_matched_at_some_hosts_alone() -> None:
    """Exact hosts, and of a wildcard what is under both."""
    policies = {
        "file": policy("https://x.test"),
        "exact": policy("https://x.test/a", "https://y.in.test/b"),
        "wide": policy(domains=("https://*.in.test", "https://*.out.test")),
        "wider": policy(domains=("https://*.co.test",)),
    }
    narrowed = Narrowed({"exact", "wide", "wider"}, frozenset({"in.test", "deep.co.test"}))
    matching = Matching.of(policies, narrowed)
    assert matching.at("x.test") == ["file"]
    assert matching.at("y.in.test") == ["exact", "wide"]
    assert matching.at("a.out.test") == matching.at("other.co.test") == []
    assert matching.at("deep.co.test") == matching.at("z.deep.co.test") == ["wider"]
    found = overlaps(policies, lambda *_: True, narrowed)
    assert list(found) == [Overlap("exact", "wide", "https://y.in.test/b")]
