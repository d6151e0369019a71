"""The local address of outgoing connections, where the config names one (`source_address`)."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from sidekey.errors import Problem, ProblemError
from sidekey.policy.addresses import Address


class AbsentSource(OSError):
    """The source address is not one of this machine's, or not any more."""


class NoPort(OSError):
    """No local port is left for another connection to this destination."""


def of_family(addresses: Sequence[Address], source: Address) -> list[Address]:
    """Keep the destinations that can be reached from the source address.

    Raises ProblemError (upstream_unreachable) where there is none.
    """
    reached = [address for address in addresses if address.version == source.version]
    if not reached:
        family = f"IPv{source.version}"
        raise ProblemError(
            Problem(
                "upstream_unreachable",
                f"the target's host has no {family} address that may be dialled, and source_address is an {family} one",
                error="destination_unavailable",
            )
        )
    return reached


def bind(connection: socket.socket, source: Address) -> None:
    """Let a socket that is not connected leave from the source address. Raises OSError."""
    if sys.platform == "linux":
        # The port is chosen when the socket connects, so that one serves for many destinations (ip(7)). What does not
        # know the option, as some sandboxes, chooses it here.
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        connection.bind((str(source), 0))
    except OSError as error:
        raise (NoPort() if error.errno == errno.EADDRINUSE else AbsentSource()) from None


def local_error(error: OSError, destination: Address, source: Address | None) -> OSError:
    """What the error of an attempt to connect says: NoPort where the local end has an address, but no port.

    Without a source address IPv6 has the same number for a machine that has no IPv6 address.
    """
    if error.errno == errno.EADDRNOTAVAIL and (source is not None or destination.version == 4):
        return NoPort()
    return error
