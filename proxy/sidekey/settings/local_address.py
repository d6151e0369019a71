"""Whether an address is one of this machine's."""

from __future__ import annotations

import errno
import socket

from sidekey.core.addresses import Address

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
