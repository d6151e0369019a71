"""Check addresses when a config is loaded: destinations to which Sidekey may not connect, and source addresses."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from sidekey.config.errors import FindingKind, Loc
from sidekey.network.guard import is_own, own_listeners
from sidekey.policy.addresses import Address, AllowPrivate, NetworkOverride, parse_address, refusal_reason, unwrap
from sidekey.policy.parent_proxy import LOCAL_NAME, is_local_name
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.parent_proxy import ParentProxy
from sidekey.snapshot.snapshot import Integration, Listen, NetworkRules

ABSENT: Final = "must be an address of the machine that Sidekey runs on: this machine does not have it"

PARENT_PROXY: Final = (
    "the target is a parent proxy, which receives requests of Sidekey itself only: use the URL of the service itself"
)

_ALL_NETWORKS: Final = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_ABSENT_ERRORS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def address_warnings(integration: Integration, network: NetworkRules) -> Iterator[tuple[Loc, str]]:
    """Report the hosts of an integration to which no connection is allowed, without a DNS look-up."""
    domains = (domain.origin for domain in integration.policy.domains if not domain.wildcard)
    origins: dict[str, tuple[Origin, Loc]] = {origin.host: (origin, ()) for origin in domains}
    origins |= {prefix.origin.host: (prefix.origin, ("endpoint_prefix",)) for prefix in integration.policy.prefixes}
    for origin, loc in origins.values():
        reason = route_refusal(origin, integration.egress, network)
        if reason is not None:
            yield loc, reason


def describe_route(
    origin: Origin, egress: Egress, network: NetworkRules, dns_addresses: Sequence[Address] = ()
) -> str | None:
    """Describe the way to an origin through or past the parent proxy, or return None without one."""
    parent = network.parent_for(egress)
    if parent is None:
        return None if network.proxy is None else "Sidekey connects directly: `proxy` of the integration is none"
    if parent.no_proxy.covers_host(origin.host):
        return "Sidekey connects directly: the host is in `no_proxy`"
    through = f"Sidekey connects through the parent proxy {parent.origin}"
    refusal = _proxy_refusal(parent, network, egress)
    end = "" if refusal is None else f"; this fails, because {refusal}"
    if network.leaves_name(origin.host, egress):
        return f"{through}, which resolves the name: CONNECT {origin.host}:{origin.port}{end}"
    addresses = configured_addresses(origin.host, network) or dns_addresses
    direct = next(filter(parent.no_proxy.covers_address, addresses), None)
    if direct is not None:
        return f"Sidekey connects directly: {direct} is in `no_proxy`, or this machine"
    host = str(unwrap(addresses[0])) if addresses else "ADDRESS"
    return f"{through}: CONNECT {f'[{host}]' if ':' in host else host}:{origin.port}{end}"


def route_refusal(
    origin: Origin, egress: Egress, network: NetworkRules, dns_addresses: Sequence[Address] = ()
) -> str | None:
    """Return why no connection to an origin is allowed and how to allow one, or None if it is allowed.

    `dns_addresses` are used if the config has no address for the host, and no parent proxy resolves it.
    """
    host = origin.host
    if _is_parent_proxy(origin, egress, network, dns_addresses):
        return PARENT_PROXY
    if network.leaves_name(host, egress):
        return f"the parent proxy resolves names, and {LOCAL_NAME}" if is_local_name(host) else None
    return address_refusal(host, egress.allow_private, network, dns_addresses)


def _is_parent_proxy(origin: Origin, egress: Egress, network: NetworkRules, dns_addresses: Sequence[Address]) -> bool:
    """Return True if an origin is a parent proxy, by its name or by all of its addresses."""
    if (origin.host, origin.port) in network.proxies:
        return True
    if network.leaves_name(origin.host, egress):
        return False
    hosts = [host for host, port in network.proxies if port == origin.port]
    proxies = {unwrap(address) for host in hosts for address in configured_addresses(host, network)}
    addresses = configured_addresses(origin.host, network) or dns_addresses
    return bool(addresses) and all(unwrap(address) in proxies for address in addresses)


def proxy_findings(egress: Egress, network: NetworkRules, listen: Listen) -> Iterator[tuple[FindingKind, str]]:
    """Yield an error if the parent proxy is a listener of Sidekey, or a warning if its address is not allowed.

    There is no DNS look-up.
    """
    proxy = network.parent_for(egress)
    if proxy is None:
        return
    host, port = proxy.origin.host, proxy.origin.port
    own = own_listeners((listen.proxy, listen.admin, listen.metrics))
    if any(is_own(address, port, own) for address in configured_addresses(host, network)):
        yield "error", "must not be a listener of Sidekey itself: write the address of the next proxy"
        return
    reason = _proxy_refusal(proxy, network, egress)
    if reason is not None:
        yield "warning", reason


def _proxy_refusal(proxy: ParentProxy, network: NetworkRules, egress: Egress) -> str | None:
    """Return why no connection to a parent proxy is allowed. An integration's own networks are for its own proxy."""
    if proxy is egress.proxy:
        where = "allow_private of the integration"
        return address_refusal(proxy.origin.host, egress.allow_private, network, where=where)
    return address_refusal(proxy.origin.host, (), network, where="network.allow_private")


def configured_addresses(host: str, network: NetworkRules) -> list[Address]:
    """Return the addresses of a host that need no DNS look-up, if any."""
    host_address = parse_address(host)
    static = network.hosts.get(host, ("127.0.0.1",) if host == "localhost" else ())
    return [*map(ip_address, static)] if host_address is None else [host_address]


def address_refusal(
    host: str,
    allow_private: AllowPrivate,
    network: NetworkRules,
    dns_addresses: Sequence[Address] = (),
    where: str = "allow_private of the integration, or to network.allow_private",
) -> str | None:
    """Return why no connection to a host is allowed and how to allow one, or None if it is allowed.

    `allow_private` belongs to the integration. `dns_addresses` are used if the config has no address for the host.
    `where` names the key that allows an address.
    """
    addresses = configured_addresses(host, network) or dns_addresses
    allowed = network.allowed_networks(allow_private)
    if not addresses or any(refusal_reason(address, allowed) is None for address in addresses):
        return None
    address = next((item for item in addresses if refusal_reason(item, _ALL_NETWORKS) is None), addresses[0])
    subject = host if parse_address(host) is not None else f"{host} is {address}, which"
    reason = refusal_reason(address, allowed)
    if refusal_reason(address, _ALL_NETWORKS) is not None:
        return f"{subject} is never dialled ({reason}), even with allow_private: use another address"
    # Networks are compared with the IPv4 address inside an IPv6 one.
    network_to_allow = ip_network(unwrap(address))
    if isinstance(allow_private, NetworkOverride):
        remedy = f"the operator must add {network_to_allow} to store.allow_private"
    else:
        remedy = f"add {network_to_allow} to {where}"
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
