"""Check addresses when a config is loaded: destinations to which Sidekey may not connect, and source addresses."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from sidekey.config.errors import Loc
from sidekey.policy.addresses import Address, AllowPrivate, NetworkOverride, parse_address, refusal_reason, unwrap
from sidekey.snapshot.snapshot import Integration, NetworkRules

ABSENT: Final = "must be an address of the machine that Sidekey runs on: this machine does not have it"

_ALL_NETWORKS: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ABSENT_ERRORS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def address_warnings(integration: Integration, network: NetworkRules) -> Iterator[tuple[Loc, str]]:
    """Report the hosts of an integration to which no connection is allowed, without a DNS look-up."""
    hosts: dict[str, Loc] = {domain.origin.host: () for domain in integration.policy.domains if not domain.wildcard}
    hosts |= {prefix.origin.host: ("endpoint_prefix",) for prefix in integration.policy.prefixes}
    for host, loc in hosts.items():
        reason = address_refusal(host, integration.allow_private, network)
        if reason is not None:
            yield loc, reason


def address_refusal(
    host: str, allow_private: AllowPrivate, network: NetworkRules, dns_addresses: Sequence[Address] = ()
) -> str | None:
    """Return why no connection to a host is allowed and how to allow one, or None if it is allowed.

    `allow_private` belongs to the integration. `dns_addresses` are used if the config has no address for the host.
    """
    host_address = parse_address(host)
    static = network.hosts.get(host, ("127.0.0.1",) if host == "localhost" else ())
    addresses = [*map(ip_address, static)] or dns_addresses if host_address is None else [host_address]
    stored = isinstance(allow_private, NetworkOverride)
    allowed = (
        allow_private.networks
        if isinstance(allow_private, NetworkOverride)
        else (*network.allow_private, *allow_private)
    )
    if not addresses or any(refusal_reason(address, allowed) is None for address in addresses):
        return None
    address = next((item for item in addresses if refusal_reason(item, _ALL_NETWORKS) is None), addresses[0])
    subject = host if host_address is not None else f"{host} is {address}, which"
    reason = refusal_reason(address, allowed)
    if refusal_reason(address, _ALL_NETWORKS) is not None:
        return f"{subject} is never dialled ({reason}), even with allow_private: use another address"
    # Networks are compared with the IPv4 address inside an IPv6 one.
    network_to_allow = ip_network(unwrap(address))
    if stored:
        remedy = f"the operator must add {network_to_allow} to store.allow_private"
    else:
        remedy = f"add {network_to_allow} to allow_private of the integration, or to network.allow_private"
    return f"{subject} is not a global address ({reason}): {remedy}"


def is_local(address: Address) -> bool:
    """Return True if a socket can be bound to the address, or if another error prevents the attempt."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _ABSENT_ERRORS
    return True
