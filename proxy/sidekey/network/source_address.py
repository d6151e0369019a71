"""The local address of outgoing connections (config key `source_address`)."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from sidekey.errors import Problem, ProblemError
from sidekey.policy.addresses import Address


class AbsentSource(OSError):
    """The source address does not, or no longer, belong to this machine."""


class NoPort(OSError):
    """No local port is left for another connection to this destination."""


def require_family(addresses: Sequence[Address], source: Address) -> list[Address]:
    """Return the destinations of the source address's family.

    Raises ProblemError (upstream_unreachable) if there is none.
    """
    reachable = [address for address in addresses if address.version == source.version]
    if not reachable:
        family = f"IPv{source.version}"
        raise ProblemError(
            Problem(
                "upstream_unreachable",
                f"the target's host has no {family} address that may be dialled, and source_address is an {family} one",
                error="destination_unavailable",
            )
        )
    return reachable


def bind(connection: socket.socket, source: Address) -> None:
    """Bind an unconnected socket to the source address. Raises AbsentSource or NoPort."""
    if sys.platform == "linux":
        # The kernel then chooses the port on connect, so one port serves many destinations (ip(7)). Some sandboxes do
        # not know the option; bind chooses the port there.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        connection.bind((str(source), 0))
    except OSError as error:
        raise (NoPort() if error.errno == errno.EADDRINUSE else AbsentSource()) from None


def local_error(error: OSError, destination: Address, source: Address | None) -> OSError:
    """Return NoPort if the machine has no free local port, else the error.

    IPv6 without a source address is ambiguous: EADDRNOTAVAIL may also mean that the machine has no IPv6 address.
    """
    if error.errno == errno.EADDRNOTAVAIL and (source is not None or destination.version == 4):
        return NoPort()
    return error
