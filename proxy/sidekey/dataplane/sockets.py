"""What a transport does not tell of its socket, or does only at the loop's next turn."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)


def has_arrived(descriptor: int) -> bool:
    """Whether something waits to be read: bytes, an end of stream, or an error."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def descriptor_of(transport: asyncio.BaseTransport | None) -> int:
    """The descriptor of a transport's socket; -1 where there is none, or no more."""
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()


def is_quiet(transport: asyncio.BaseTransport | None) -> bool:
    """Whether nothing waits to be read from a transport's socket."""
    descriptor = descriptor_of(transport)
    return descriptor < 0 or not has_arrived(descriptor)


def half_close(descriptor: int) -> None:
    """Send the end of stream now. Raises OSError where the peer has reset the connection."""
    sock = socket.socket(fileno=descriptor)
    try:
        sock.shutdown(socket.SHUT_WR)
    finally:
        sock.detach()


def reset(transport: asyncio.Transport) -> None:
    """Close at once by a reset where the connection is TCP: what was cut does not look complete then."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
