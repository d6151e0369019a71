"""Remove the addresses that Sidekey must not dial, before every connection to an upstream.

The dialer calls this module, not the resolver, because address literals bypass the resolver.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from sidekey.errors import Denial, Problem, ProblemError
from sidekey.policy.addresses import CLOUD_METADATA, Address, Network, refusal_reason, unwrap
from sidekey.snapshot.snapshot import Address as ListenerAddress

_OWN_LISTENER: Final = "a listener of Sidekey itself"
_PARENT_PROXY: Final = "a parent proxy: use the URL of the service itself"


class OwnListener(NamedTuple):
    """A listener of Sidekey, which Sidekey must not dial. An unspecified address means every local address."""

    address: Address
    port: int


def own_listeners(addresses: Iterable[ListenerAddress | None]) -> tuple[OwnListener, ...]:
    """List Sidekey's own TCP listeners, to which the dialer must not connect."""
    return tuple(
        OwnListener(ip_address(address.host), address.port)
        for address in addresses
        if address is not None and address.path is None
    )


def require_permitted(
    addresses: Sequence[Address],
    port: int,
    allowed: Sequence[Network],
    listeners: Sequence[OwnListener],
    proxies: Collection[Address] = (),
) -> list[Address]:
    """Return the addresses that Sidekey may dial on `port`, in order. `allowed` lists non-global networks.

    `proxies` are the addresses of parent proxies with this port: only Sidekey itself may send them requests.
    Raises ProblemError (destination_denied) if there is none.
    """
    reasons = []
    dialable = []
    for address in addresses:
        reason = refusal_reason(address, allowed)
        if reason is None and is_own(address, port, listeners):
            reason = _OWN_LISTENER
        if reason is None and unwrap(address) in proxies:
            reason = _PARENT_PROXY
        if reason is None:
            dialable.append(address)
        else:
            reasons.append(reason)
    if not dialable:
        distinct_reasons = ", ".join(dict.fromkeys(reasons))
        raise ProblemError(
            Problem(
                "destination_denied",
                f"the target's host has only addresses that may not be dialled ({distinct_reasons})",
                denial=_most_serious_denial(reasons),
            )
        )
    return dialable


def _most_serious_denial(reasons: Sequence[str]) -> Denial:
    if CLOUD_METADATA in reasons:
        return "metadata_address"
    if _OWN_LISTENER in reasons:
        return "own_listener"
    return "parent_proxy" if _PARENT_PROXY in reasons else "private_address"


def is_own(address: Address, port: int, listeners: Sequence[OwnListener]) -> bool:
    """Return True if a connection to an address and port would reach a listener of Sidekey."""
    same_port = [listener for listener in listeners if listener.port == port]
    if not same_port:
        return False
    address = unwrap(address)
    if address.is_unspecified:
        # The kernel connects an unspecified address to the loopback one (ip(7), RFC 1122 3.2.1.3).
        address = IPv4Address("127.0.0.1") if address.version == 4 else IPv6Address("::1")
    return any(
        _is_local(address) if listener.address.is_unspecified else unwrap(listener.address) == address
        for listener in same_port
    )


def _is_local(address: Address) -> bool:
    """Return True if the address belongs to this machine.

    Connecting a UDP socket to any port sends nothing: the kernel only picks a route and a source address. For a local
    destination it picks the destination itself.
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        # An unreachable address is not local.
        return False
