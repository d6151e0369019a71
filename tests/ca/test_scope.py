"""Hosts that need a certificate, and hosts that the constraints of a CA permit."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.ca.scope import NO_NAME, Bounds, Scope, is_under
from sidekey.policy.targets import Policy, parse_domain, parse_prefix
from sidekey.policy.urls import Origin
from support.local_cas import scope_of

LABELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


def test_scope_has_the_hosts_of_prefixes_and_domains() -> None:
    """A wildcard counts as its suffix. Ports and paths do not matter."""
    scope = scope_of(
        "https://api.example.com:8443/v1", "http://10.1.2.3", "https://[fd00::1]/x", "https://*.example.org"
    )
    assert scope.hosts() == ["api.example.com", "example.org", "10.1.2.3", "fd00::1"]


def test_scope_has_only_hosts_that_prefixes_and_domains_allow() -> None:
    """The constraints should be narrow."""
    policy = Policy(
        prefixes=(parse_prefix("https://a.example.com/v1"), parse_prefix("https://b.example.net/v1")),
        domains=(parse_domain("https://*.example.com"), parse_domain("https://c.example.org")),
    )
    assert Scope.of([policy]).hosts() == ["a.example.com"]


def test_scope_has_the_placeholder_and_the_domains_of_base_urls() -> None:
    """Callers may use the placeholder or the discovered host."""
    policy = Policy(
        prefixes=(parse_prefix("https://base-url.invalid/v1"),),
        domains=(parse_domain("https://*.my.example.com"),),
        placeholder_origin=Origin("https", "base-url.invalid", 443),
    )
    assert Scope.of([policy]).hosts() == ["base-url.invalid", "my.example.com"]


def test_subdomain_of_another_name_is_omitted() -> None:
    """A constraint permits all subdomains."""
    assert scope_of("https://a.example.com", "https://*.example.com", "https://b.example.org").hosts() == [
        "b.example.org",
        "example.com",
    ]
    assert Scope.of([], ["example.com", "x.example.com"]).hosts() == ["example.com"]


@pytest.mark.parametrize(
    ("urls", "families"),
    [
        (("https://a.test",), {4, 6}),
        (("https://a.test", "https://10.0.0.1"), {6}),
        (("https://[fd00::1]",), {4}),
        (("https://10.0.0.1", "https://[fd00::1]"), set()),
    ],
)
def test_address_family_is_permitted_in_part_or_excluded(urls: tuple[str, ...], families: set[int]) -> None:
    """OpenSSL, Go and GnuTLS refuse an address that is permitted and excluded."""
    bounds = Bounds.exactly(scope_of(*urls))
    assert {network.version for network in bounds.excluded_networks} == families
    assert all(network.prefixlen == 0 for network in bounds.excluded_networks)
    assert {network.version for network in bounds.networks or ()}.isdisjoint(families)


def test_bounds_without_a_host_name_permit_none() -> None:
    """Without a list of names, a CA would permit every name."""
    bounds = Bounds.exactly(scope_of("https://10.0.0.1"))
    assert bounds.names == {NO_NAME}
    assert not bounds.permits("example.com")
    assert bounds.permits("10.0.0.1")
    assert not bounds.permits("10.0.0.2")
    assert not bounds.permits("::1")


@pytest.mark.parametrize(
    ("bounds", "host", "permitted"),
    [
        (Bounds(), "any.example", True),
        (Bounds(), "192.0.2.1", True),
        (Bounds(names=frozenset({"example.com"})), "example.com", True),
        (Bounds(names=frozenset({"example.com"})), "a.b.example.com", True),
        (Bounds(names=frozenset({"example.com"})), "badexample.com", False),
        (Bounds(names=frozenset({".example.com"})), "example.com", False),
        (Bounds(names=frozenset({".example.com"})), "a.example.com", True),
        (Bounds(names=frozenset({""})), "a.example.com", True),
        (Bounds(excluded_names=frozenset({""})), "a.example.com", False),
        (Bounds(names=frozenset({"com"}), excluded_names=frozenset({"x.com"})), "a.x.com", False),
        (Bounds(names=frozenset({"com"})), "192.0.2.1", True),
        (Bounds(networks=frozenset({ip_network("10.0.0.0/8")})), "10.9.9.9", True),
        (Bounds(networks=frozenset({ip_network("10.0.0.0/8")})), "11.0.0.1", False),
        (Bounds(networks=frozenset({ip_network("10.0.0.0/8")})), "fd00::1", False),
        (Bounds(networks=frozenset({ip_network("10.0.0.0/8")})), "a.example", True),
        (Bounds(excluded_networks=frozenset({ip_network("0.0.0.0/0")})), "10.0.0.1", False),
        (Bounds(excluded_networks=frozenset({ip_network("0.0.0.0/0")})), "fd00::1", True),
    ],
)
def test_bounds_permit_hosts_by_rfc_5280(bounds: Bounds, host: str, permitted: bool) -> None:
    """RFC 5280 4.2.1.10, and the leading dot of OpenSSL."""
    assert bounds.permits(host) is permitted


def test_name_with_an_excluded_subdomain_is_not_permitted_below() -> None:
    bounds = Bounds(names=frozenset({"com"}), excluded_names=frozenset({"x.example.com"}))
    assert bounds.permits("example.com")
    assert not bounds.permits_below("example.com")
    assert bounds.permits_below("example2.com")


def test_outside_returns_the_hosts_that_no_ca_covers() -> None:
    """Each of several CAs may cover a part."""
    scope = scope_of("https://a.test", "https://*.b.test", "https://10.0.0.1")
    first, second = Bounds.exactly(scope_of("https://a.test")), Bounds.exactly(scope_of("https://10.0.0.1"))
    assert scope.outside([first]).hosts() == ["b.test", "10.0.0.1"]
    assert scope.outside([first, second]).hosts() == ["b.test"]
    assert not scope.outside([Bounds.exactly(scope)])
    # A CA for one subdomain does not cover the wildcard.
    assert scope_of("https://*.b.test").outside([Bounds.exactly(scope_of("https://x.b.test"))]).hosts() == ["b.test"]


@given(name=LABELS, suffixes=st.frozensets(LABELS, max_size=4))
def test_is_under_agrees_with_a_comparison_of_suffixes(name: str, suffixes: frozenset[str]) -> None:
    assert is_under(name, suffixes) is any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)


@given(names=st.frozensets(LABELS, max_size=6), host=LABELS)
def test_bounds_of_a_scope_permit_its_hosts_and_no_others(names: frozenset[str], host: str) -> None:
    """This holds although the scope omits subdomains of other names."""
    scope = Scope.of([], names)
    covered = any(host == name or host.endswith(f".{name}") for name in names)
    assert Bounds.exactly(scope).permits(host) is (covered or (not names and host == NO_NAME))
    assert all(Bounds.exactly(scope).permits_below(name) for name in names)


def test_empty_scope_is_false() -> None:
    assert not Scope()
    assert replace(Scope(), addresses=frozenset({ip_address("10.0.0.1")}))


def test_scope_of_thousands_of_hosts_takes_linear_time() -> None:
    """An earlier version with quadratic time took ten seconds."""
    start = time.perf_counter()
    scope = Scope.of([], [f"{number}.test" for number in range(20_000)])
    assert time.perf_counter() - start < 2
    assert len(scope.names) == 20_000
