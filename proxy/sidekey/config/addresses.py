"""Hosts to which no connection is allowed, as far as their addresses are known without a connection."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from sidekey.config.errors import Loc
from sidekey.policy.addresses import Address, AllowPrivate, NetworkOverride, literal, refusal, unwrap
from sidekey.snapshot.snapshot import Integration, NetworkRules

_EVERYTHING: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def address_warnings(integration: Integration, network: NetworkRules) -> Iterator[tuple[Loc, str]]:
    """Report the hosts of an integration to which no connection is allowed; nothing is looked up."""
    hosts: dict[str, Loc] = {each.origin.host: () for each in integration.policy.domains if not each.wildcard}
    hosts |= {each.origin.host: ("endpoint_prefix",) for each in integration.policy.prefixes}
    for host, loc in hosts.items():
        reason = address_refusal(host, integration.allow_private, network)
        if reason is not None:
            yield loc, reason


def address_refusal(
    host: str, allow_private: AllowPrivate, network: NetworkRules, looked_up: Sequence[Address] = ()
) -> str | None:
    """Return why no connection to a host is allowed, and what would allow one, else None.

    `allow_private` is the integration's. `looked_up` counts only for a host whose addresses the config does not say.
    """
    spelled = literal(host)
    static = network.hosts.get(host, ("127.0.0.1",) if host == "localhost" else ())
    addresses = [*map(ip_address, static)] or looked_up if spelled is None else [spelled]
    stored = isinstance(allow_private, NetworkOverride)
    allowed = (
        allow_private.networks
        if isinstance(allow_private, NetworkOverride)
        else (*network.allow_private, *allow_private)
    )
    if not addresses or any(refusal(each, allowed) is None for each in addresses):
        return None
    address = next((each for each in addresses if refusal(each, _EVERYTHING) is None), addresses[0])
    subject = host if spelled is not None else f"{host} is {address}, which"
    reason = refusal(address, allowed)
    if refusal(address, _EVERYTHING) is not None:
        return f"{subject} is never dialled ({reason}), whatever allow_private says: use another address"
    # Networks are compared with the IPv4 address inside an IPv6 one.
    opening = ip_network(unwrap(address))
    if stored:
        way_out = f"the operator must add {opening} to store.allow_private"
    else:
        way_out = f"add {opening} to allow_private of the integration, or to network.allow_private"
    return f"{subject} is not a global address ({reason}): {way_out}"


ABSENT = "must be an address of the machine that Sidekey runs on: this machine does not have it"

_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def is_local(address: Address) -> bool:
    """Whether a socket can be bound to it; true also where that cannot be found out for want of descriptors."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _ABSENT
    return True
