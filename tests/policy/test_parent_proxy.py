"""Which targets go through a parent proxy, and which names it may resolve."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.addresses import parse_address
from sidekey.policy.parent_proxy import NoProxy, is_local_name, is_localhost

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
ADDRESSES = st.ip_addresses()


@given(NAMES, NAMES, st.booleans())
def test_host_matches_exactly_and_a_suffix_below_it(host: str, entry: str, dot: bool) -> None:
    """Neither matches a part of a label. A final dot does not count."""
    sent = f"{host}." if dot else host
    assert NoProxy(hosts=frozenset({entry})).covers_host(sent) is (host == entry)
    below = len(host) > len(entry) + 1 and host[-len(entry) - 1 :] == f".{entry}"
    assert NoProxy(suffixes=(f".{entry}",)).covers_host(sent) is below
    assert NoProxy().covers_host(sent) is False


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_network_matches_each_form_of_an_ipv4_address(address: IPv4Address, prefix: int) -> None:
    covering = NoProxy(networks=(ip_network((address, prefix), strict=False),))
    for form in (address, IPv6Address(f"::ffff:{address}"), IPv6Address(f"64:ff9b::{address}")):
        assert covering.covers_address(form)


@given(ADDRESSES)
def test_only_addresses_of_this_machine_are_direct_without_an_entry(address: IPv4Address | IPv6Address) -> None:
    expected = address.is_loopback or address.is_unspecified
    if (
        isinstance(address, IPv6Address) and address.ipv4_mapped is None and address not in ip_network("64:ff9b::/96")
    ) or isinstance(address, IPv4Address):
        assert NoProxy().covers_address(address) is expected


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
def test_addresses_of_this_machine_are_direct(text: str) -> None:
    assert NoProxy().covers_address(ip_address(text))


@given(NAMES, st.booleans())
def test_name_for_the_proxy_has_two_labels_and_ends_in_a_top_level_domain(host: str, dot: bool) -> None:
    """Whatever is not an address for Sidekey and passes is none for a proxy with inet_aton either."""
    last = host.rpartition(".")[2]
    local = "." not in host or last in {"local", "internal", "localhost", "svc"} or last[0].isdigit()
    assert is_local_name(f"{host}." if dot else host) is local
    if parse_address(host) is not None:
        assert is_local_name(host)


def test_localhost_is_this_machine() -> None:
    names = ["localhost", "localhost.", "x.localhost", "notlocalhost", "localhost.example.com"]
    assert [is_localhost(name) for name in names] == [True, True, True, False, False]
