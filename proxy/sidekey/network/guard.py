"""The guard before every dial: of the addresses found, those that may be dialled.

It stands where sockets are made and not in the resolver, which address literals go past.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

from sidekey.errors import Denial, Problem, ProblemError
from sidekey.policy.addresses import CLOUD_METADATA, Address, Network, refusal, unwrap

OWN: Final = "a listener of Sidekey itself"


class Listener(NamedTuple):
    """Where Sidekey itself listens; an unspecified address stands for every address of this machine."""

    address: Address
    port: int


def permitted(
    addresses: Sequence[Address],
    port: int,
    allowed: Sequence[Network],
    own: Sequence[Listener],
) -> list[Address]:
    """Keep the addresses that may be dialled on `port`, in order.

    Raises ProblemError (destination_denied) where none may.
    """
    reasons = []
    passed = []
    for address in addresses:
        reason = refusal(address, allowed)
        if reason is None and _is_own(address, port, own):
            reason = OWN
        if reason is None:
            passed.append(address)
        else:
            reasons.append(reason)
    if not passed:
        classes = ", ".join(dict.fromkeys(reasons))
        raise ProblemError(
            Problem(
                "destination_denied",
                f"the target's host has only addresses that may not be dialled ({classes})",
                denial=_denial(reasons),
            )
        )
    return passed


def _denial(reasons: Sequence[str]) -> Denial:
    """The gravest of the reasons."""
    if CLOUD_METADATA in reasons:
        return "metadata_address"
    return "own_listener" if OWN in reasons else "private_address"


def _is_own(address: Address, port: int, own: Sequence[Listener]) -> bool:
    same_port = [listener for listener in own if listener.port == port]
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
    """Whether an address is one of this machine's, by what the kernel says.

    Connecting a UDP socket sends nothing, it only picks a route and a source; for an address of its own the kernel
    picks that same address, and for any of 127.0.0.0/8 a loopback one.
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        # It is unreachable, so it is not this machine's.
        return False
