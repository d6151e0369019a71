"""Hosts that integrations cover, overlaps between integrations, and origins of their targets."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.coverage import Coverage
from sidekey.policy.match import HostRestriction, Matching, Overlap, find_overlaps, is_under
from sidekey.policy.origins import has_several, target_origins
from sidekey.policy.targets import Domain, Forbidden, Policy, Prefix, parse_discovered_base, parse_domain, parse_prefix
from sidekey.policy.urls import Origin, parse_target

POLICY = Policy(
    prefixes=(parse_prefix("https://a.test:8443/api"), parse_prefix("http://127.0.0.1:9000/x")),
    domains=(parse_domain("https://b.test"), parse_domain("https://*.c.test")),
    forbidden=(Forbidden(parse_prefix("https://auth.test").origin, "/token"), Forbidden(None, "/login")),
    placeholder_origin=Origin("https", "login.test", 443),
)
COVERAGE = Coverage.of([POLICY, Policy(prefixes=(parse_prefix("https://[2001:db8::1]/v6"),))])


def host_of(authority: str) -> str:
    """Return the host of an authority."""
    return parse_target(f"http://{authority}/").origin.host


@pytest.mark.parametrize(
    "authority",
    [
        "a.test",
        "A.Test:80",
        "a.test.",
        "b.test",
        "c.test",
        "x.c.test",
        "y.x.c.test.",
        "auth.test",
        "login.test",
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0177.0.0.1.",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2001:db8::1]",
        "[2001:0DB8:0::0:1]",
    ],
)
def test_host_in_a_policy_is_covered(authority: str) -> None:
    """In prefixes, domains, wildcards and forbidden targets, in every spelling."""
    assert COVERAGE.covers(host_of(authority))


@pytest.mark.parametrize(
    "authority", ["test", "x.a.test", "xa.test", "a.test.evil.test", "xc.test", "127.0.0.2", "[::1]", "[2001:db8::2]"]
)
def test_other_hosts_are_not_covered(authority: str) -> None:
    """Such as parents, subdomains, and hosts with the same ending."""
    assert not COVERAGE.covers(host_of(authority))


def test_without_a_policy_nothing_is_covered() -> None:
    assert Coverage.of([]) == Coverage.of([Policy()]) == Coverage()
    assert not Coverage().covers("a.test")
    assert not Coverage().covers("")


def test_hosts_and_wildcards_are_covered_separately() -> None:
    """Exact hosts and suffixes of wildcards are separate sets."""
    result = Coverage.of([Policy(domains=(parse_domain("https://*.c.test"), parse_domain("https://b.test")))])
    assert (result.hosts, result.suffixes) == ({"b.test"}, {"c.test"})


def test_coverage_is_immutable() -> None:
    """All workers share it."""
    with pytest.raises(FrozenInstanceError):
        COVERAGE.hosts = frozenset()  # type: ignore[misc]
    assert not hasattr(COVERAGE, "__dict__")


def test_union_covers_the_hosts_of_both() -> None:
    both = Coverage.of([Policy(domains=(parse_domain("https://*.d.test"),))]) | COVERAGE
    assert [both.covers(host) for host in ("x.d.test", "a.test", "x.c.test", "e.test")] == [True, True, True, False]


HOSTS = st.sampled_from(["a.test", "b.a.test", "c.b.a.test", "b.test", "login.test"])
ORIGINS = HOSTS.map(lambda host: Origin("https", host, 443))
POLICIES = st.builds(
    Policy,
    prefixes=st.lists(st.builds(Prefix, ORIGINS, st.sampled_from(["", "/v1"])), max_size=2).map(tuple),
    domains=st.lists(st.builds(Domain, ORIGINS, st.booleans()), max_size=2).map(tuple),
    placeholder_origin=st.none() | ORIGINS,
)


@given(POLICIES, HOSTS)
def test_discovered_base_was_covered_before(policy: Policy, host: str) -> None:
    """So a token response never changes the coverage."""
    try:
        learnt = policy.with_base(parse_discovered_base(f"https://{host}/v1"))
    except ValueError:
        return
    before = Coverage.of([policy])
    after = Coverage.of([learnt])
    assert all(before.covers(item) for item in after.hosts | after.suffixes)
    if learnt.prefixes or learnt.domains:
        assert before.covers(host)


def test_coverage_is_restricted_to_hosts() -> None:
    """A wider wildcard keeps only the part under these hosts."""
    policies = [
        Policy(prefixes=(Prefix(Origin("https", host, 443), ""),))
        for host in ("a.in.test", "in.test", "out.test", "127.0.0.1")
    ] + [Policy(domains=(parse_domain("https://*.co.test"), parse_domain("https://*.x.in.test")))]
    result = Coverage.of(policies).within(frozenset({"in.test", "deep.co.test"}))
    covered = ("a.in.test", "in.test", "y.x.in.test", "deep.co.test", "z.deep.co.test")
    assert [host for host in covered if not result.covers(host)] == []
    others = ("b.in.test", "out.test", "127.0.0.1", "other.co.test", "co.test")
    assert [host for host in others if result.covers(host)] == []
    assert Coverage.of(policies).within(frozenset()) == Coverage()


@given(policies=st.lists(POLICIES, max_size=4), hosts=st.frozensets(HOSTS, max_size=2), host=HOSTS)
def test_within_is_the_intersection(policies: list[Policy], hosts: frozenset[str], host: str) -> None:
    coverage = Coverage.of(policies)
    assert coverage.within(hosts).covers(host) == (coverage.covers(host) and is_under(host, hosts))


def policy(*prefixes: str, domains: tuple[str, ...] = (), path: str = "", placeholder_origin: str = "") -> Policy:
    """Build a policy from texts."""
    return Policy(
        tuple(map(parse_prefix, prefixes)),
        tuple(map(parse_domain, domains)),
        path=path,
        placeholder_origin=Origin("https", placeholder_origin, 443) if placeholder_origin else None,
    )


def test_integrations_are_matched_by_host_and_suffix() -> None:
    matching = Matching.of(
        {
            "a": policy("https://x.test/a", "https://x.test/b", "https://y.test"),
            "b": policy("https://x.test/c"),
            "c": policy(domains=("https://*.wild.test",)),
            "d": policy(domains=("https://auth.test", "https://*.inst.test"), placeholder_origin="auth.test"),
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
    ("first", "second", "where"),
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
        (policy(domains=("https://x.test",), placeholder_origin="x.test"), policy(SEGMENT), "https://x.test/a"),
    ],
)
def test_policies_that_cover_the_same_target_overlap(first: Policy, second: Policy, where: str | None) -> None:
    """In either order. An http target that is upgraded overlaps, too."""
    expected = [] if where is None else [Overlap("a", "b", where)]
    for policies in ({"a": first, "b": second}, {"b": second, "a": first}):
        result = list(find_overlaps(policies, lambda *_: True))
        assert [overlap[:2] for overlap in result] == [overlap[:2] for overlap in expected]
        assert all(overlap.url.split("://")[1] == str(where).split("://")[1] for overlap in result)
        assert list(find_overlaps(policies, lambda *_: False)) == []


def test_many_integrations_at_one_host_are_compared_fast() -> None:
    """Ten thousand integrations would have fifty million pairs."""
    comparisons = 0

    def together(_: str, __: str) -> bool:
        nonlocal comparisons
        comparisons += 1
        return True

    policies = {f"i{number}": policy(f"https://x.test/{number}/v1") for number in range(2000)}
    assert list(find_overlaps(policies, together)) == []
    assert comparisons == 0


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
def test_host_is_under_a_name_at_label_boundaries(host: str, hosts: set[str], under: bool) -> None:
    assert is_under(host, hosts) is under


def test_restricted_integration_is_matched_only_at_allowed_hosts() -> None:
    policies = {
        "file": policy("https://x.test"),
        "exact": policy("https://x.test/a", "https://y.in.test/b"),
        "wide": policy(domains=("https://*.in.test", "https://*.out.test")),
        "wider": policy(domains=("https://*.co.test",)),
    }
    narrowed = HostRestriction({"exact", "wide", "wider"}, frozenset({"in.test", "deep.co.test"}))
    matching = Matching.of(policies, narrowed)
    assert matching.at("x.test") == ["file"]
    assert matching.at("y.in.test") == ["exact", "wide"]
    assert matching.at("a.out.test") == matching.at("other.co.test") == []
    assert matching.at("deep.co.test") == matching.at("z.deep.co.test") == ["wider"]
    result = find_overlaps(policies, lambda *_: True, narrowed)
    assert list(result) == [Overlap("exact", "wide", "https://y.in.test/b")]


A, B = "https://a.test", "https://b.test"


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ([], False),
        ([policy(f"{A}/v1")], False),
        ([policy(f"{A}/v1"), policy(f"{A}:443/v2")], False),
        ([policy(f"{A}/v1", f"{A}/v2")], False),
        ([policy(f"{A}/v1", f"{B}/v1")], True),
        ([policy(f"{A}/v1"), policy(f"{B}/v1")], True),
        ([policy("https://a.test:8443"), policy(A)], True),
        ([policy("http://a.test"), policy(A)], True),
        ([policy(domains=(A,)), policy(f"{A}/v1")], False),
        ([policy(domains=(A, B))], True),
        ([policy(f"{A}/v1", domains=(A, B))], False),
        ([policy(domains=("https://*.x.test",))], False),
        ([policy(domains=("https://*.x.test",)), policy(domains=("https://*.x.test",))], False),
        ([policy(domains=("https://*.x.test", "https://*.y.test"))], True),
        ([policy(domains=("https://*.x.test", "https://x.test"))], True),
        ([policy(domains=(A, "https://*.x.test"), placeholder_origin="a.test")], False),
        ([policy(domains=(A,), placeholder_origin="a.test"), policy(domains=(A,), placeholder_origin="a.test")], True),
    ],
)
def test_several_origins_are_detected(policies: list[Policy], expected: bool) -> None:
    """Prefixes narrow the domains. A discovered base is an origin of its own."""
    result = [
        origin
        for number, item in enumerate(policies)
        for origin in target_origins(f"i{number}", item, unresolved=False)
    ]
    assert has_several(result) is expected


def test_unresolved_origin_differs_from_all_others() -> None:
    assert [*target_origins("h", Policy(), unresolved=True)] == ["h"]
    assert has_several(
        [*target_origins("h", Policy(), unresolved=True), *target_origins("i", Policy(), unresolved=True)]
    )
