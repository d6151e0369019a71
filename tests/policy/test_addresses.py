"""Addresses that Sidekey may dial, and hosts that spell an address."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.policy.addresses import METADATA, parse_address, refusal_reason, unwrap
from support import cases

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
NAT64 = int(IPv6Address("64:ff9b::"))
MAPPED = int(IPv6Address("::ffff:0:0"))


@pytest.mark.parametrize("row", cases.rows("ip_classes"), ids=lambda row: f"{row['ip']} {row['why']}")
def test_address_is_allowed_as_in_the_table(row: dict[str, Any]) -> None:
    assert (refusal_reason(ip_address(row["ip"])) is None) is row["allowed"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1.2.3", "this network"),
        ("10.1.2.3", "private"),
        ("100.64.1.2", "shared address space"),
        ("127.0.0.1", "loopback"),
        ("169.254.1.2", "link-local"),
        ("172.16.1.2", "private"),
        ("192.0.0.1", "protocol assignments"),
        ("192.0.2.1", "documentation"),
        ("192.31.196.1", "AS112"),
        ("192.52.193.1", "AMT"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.1.2", "private"),
        ("192.175.48.1", "AS112"),
        ("198.18.0.1", "benchmarking"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("2001:0:1::1", "Teredo"),
        ("2001:2::1", "protocol assignments"),
        ("2001:db8::1", "documentation"),
        ("2002::1", "6to4"),
        ("2620:4f:8000::1", "AS112"),
        ("3fff::1", "documentation"),
        ("64:ff9b:1::1", "local NAT64"),
        ("::7f00:1", "IPv4-compatible"),
        ("::2", "IPv4-compatible"),
        ("::1", "not global unicast"),
        ("::", "not global unicast"),
        ("fe80::1", "not global unicast"),
    ],
)
def test_refusal_names_the_iana_class(text: str, reason: str) -> None:
    assert refusal_reason(ip_address(text)) == reason


@given(st.ip_addresses(v=4), st.lists(st.sampled_from(["127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"])))
def test_embedded_ipv4_address_is_checked_as_ipv4(address: IPv4Address, allowed: list[str]) -> None:
    """IPv4-mapped and NAT64 addresses."""
    networks = [ip_network(network) for network in allowed]
    for base in (MAPPED, NAT64):
        embedded = IPv6Address(base + int(address))
        assert unwrap(embedded) == address
        assert refusal_reason(embedded, networks) == refusal_reason(address, networks)


@given(st.ip_addresses(v=4))
def test_tunnel_address_is_never_allowed(address: IPv4Address) -> None:
    """6to4, Teredo, IPv4-compatible and local NAT64."""
    number = int(address)
    forms = [
        int(IPv6Address("2002::")) + (number << 80),
        int(IPv6Address("2001::")) + (number << 64),
        int(IPv6Address("2001::")) + (number ^ 0xFFFFFFFF),
        int(IPv6Address("64:ff9b:1::")) + number,
    ]
    if number > 1:
        forms.append(number)
    for form in forms:
        assert refusal_reason(IPv6Address(form), EVERYTHING) is not None


@pytest.mark.parametrize("address", sorted(METADATA, key=str), ids=str)
def test_metadata_address_is_never_allowed(address: IPv4Address | IPv6Address) -> None:
    assert refusal_reason(address, EVERYTHING) == "cloud metadata"


@pytest.mark.parametrize("text", ["fe80::1%lo", "2606:4700::1111%eth0", "fd00:ec2::254%eth0"])
def test_scoped_address_is_never_allowed(text: str) -> None:
    """A scope selects a network interface."""
    assert refusal_reason(ip_address(text), EVERYTHING) == "scoped address"


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("::1", "::1/128"),
        ("fd00::5", "fc00::/7"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
    ],
)
def test_allowed_network_opens_no_other_address(text: str, network: str) -> None:
    assert refusal_reason(ip_address(text), [ip_network(network)]) is None
    assert refusal_reason(ip_address("192.168.7.7"), [ip_network(network)]) is not None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0x7f.0x0.0x0.0x1", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f.0.01", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("4294967295", "255.255.255.255"),
        ("169.254.43518", "169.254.169.254"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("FE80::1%lo", "fe80::1%lo"),
        ("255.255.255.255", "255.255.255.255"),
        ("255.16777215", "255.255.255.255"),
        ("0xff.0377.65535", "255.255.255.255"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.772", "1.2.3.4"),
        ("1.131844", "1.2.3.4"),
    ],
)
def test_every_spelling_of_an_address_is_parsed(text: str, address: str) -> None:
    """The C library would dial these without DNS."""
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "1.2.3.4.",
        "1.2.3.4.5",
        "1..2",
        "256.1.1.1",
        "1.2.3.256",
        "1.2.65536",
        "1.16777216",
        "0x100.1",
        "4294967296",
        "08.1.1.1",
        "0x",
        "0xg.1",
        "0o7.1",
        "0x0x7f.1",
        "0b1",
        "1_0.1",
        "+1.1",
        "1e3",
        "a.1",
        "::g",
        "1:2",
    ],
)
def test_host_that_the_c_library_resolves_is_not_a_literal(text: str) -> None:
    assert parse_address(text) is None


PARTS = st.builds(str.__add__, st.sampled_from(["", "0", "0x", "0X"]), st.text("01789afo", max_size=10))
"""Numbers in each base, and what looks like one."""


@given(st.lists(PARTS, min_size=1, max_size=5).map(".".join))
def test_ipv4_literals_are_those_of_inet_aton(text: str) -> None:
    try:
        expected: IPv4Address | None = IPv4Address(socket.inet_aton(text))
    except OSError:
        expected = None
    assert parse_address(text) == expected
