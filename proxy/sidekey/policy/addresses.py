"""Decide which IP addresses Sidekey may dial.

The tables follow the IANA special-purpose registries (RFC 6890 and its updates). The standard library's `is_global`
is wrong on several rows. An IPv4 address embedded in IPv6 is checked as IPv4.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLOUD_METADATA: Final = "cloud metadata"
"""The reason why Sidekey does not dial an address of `METADATA`."""

METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "168.63.129.16",
            "100.100.100.200",
            "fd00:ec2::254",
            "fd00:ec2::23",
        ),
    )
)
"""Cloud metadata services. They hand out credentials, so no setting allows them."""

_SPECIAL_V4: Final = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared address space"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
    )
)

_TUNNELS: Final = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("64:ff9b:1::/48", "local NAT64"),
    )
)
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NUMBER: Final = re.compile(r"0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*)")
_UNSPECIFIED_AND_LOOPBACK: Final[tuple[IPv6Address, ...]] = (IPv6Address("::"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True)
class NetworkOverride:
    """Non-global networks that Sidekey may dial, in place of those of the config."""

    networks: tuple[Network, ...] = ()


AllowPrivate = tuple[Network, ...] | NetworkOverride
"""Non-global networks of an integration that Sidekey may dial: in addition to the config's, or as an override."""


def unwrap(address: Address) -> Address:
    """Unwrap the IPv4 address in an IPv4-mapped or NAT64 one (RFC 4291 2.5.5.2, RFC 6052), else return `address`."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def refusal_reason(address: Address, allowed: Sequence[Network] = ()) -> str | None:
    """Return why Sidekey may not dial an address, or None if it may. `allowed` lists non-global networks."""
    address = unwrap(address)
    if address in METADATA:
        return CLOUD_METADATA
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "scoped address"
        tunnel = next((reason for network, reason in _TUNNELS if address in network), None)
        if tunnel is not None:
            return tunnel
        if address in _COMPATIBLE and address not in _UNSPECIFIED_AND_LOOPBACK:
            return "IPv4-compatible"
    if any(address in network for network in allowed):
        return None
    if isinstance(address, IPv4Address):
        return next((reason for network, reason in _SPECIAL_V4 if address in network), None)
    if address not in _GLOBAL_UNICAST:
        return "not global unicast"
    return next((reason for network, reason in _SPECIAL_V6 if address in network), None)


def is_loopback(address: Address) -> bool:
    """Return True if the address never leaves this machine: 127.0.0.0/8 or ::1 (RFC 1122 3.2.1.3, RFC 4291 2.5.3)."""
    return address.is_loopback if isinstance(address, IPv4Address) else address == _UNSPECIFIED_AND_LOOPBACK[1]


def is_loopback_host(host: str) -> bool:
    """Return True if a host of a URL is a loopback address or `localhost` (RFC 6761 6.3)."""
    address = parse_address(host)
    return host == "localhost" if address is None else is_loopback(address)


def parse_address(host: str) -> Address | None:
    """Parse an address, or return None if `host` is a name.

    Accepts the forms of the C library (inet_aton): one to four parts, each decimal, octal or hexadecimal, of which the
    last one fills the rest. IPv6 is written without brackets.
    """
    if ":" in host:
        try:
            return IPv6Address(host)
        except ValueError:
            return None
    parts = host.split(".")
    if len(parts) > 4 or not parts[-1][:1].isdigit():
        # Almost all names end here.
        return None
    numbers = [_number(part) for part in parts]
    if any(number is None for number in numbers):
        return None
    *leading, last = [number for number in numbers if number is not None]
    if any(number > 0xFF for number in leading) or last >= 1 << (8 * (5 - len(parts))):
        return None
    value = last
    for place, number in enumerate(leading):
        value |= number << (8 * (3 - place))
    return IPv4Address(value)


def _number(text: str) -> int | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    hexadecimal, octal, _ = match.groups()
    return int(hexadecimal, 16) if hexadecimal else int(text, 8 if octal else 10)
