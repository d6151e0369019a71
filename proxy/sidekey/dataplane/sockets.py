"""What a transport does not tell of its socket, or does only at the loop's next turn."""

from __future__ import annotations

import select
import socket


def has_arrived(descriptor: int) -> bool:
    """Whether something waits to be read: bytes, an end of stream, or an error."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def half_close(descriptor: int) -> None:
    """Send the end of stream now. Raises OSError where the peer has reset the connection."""
    sock = socket.socket(fileno=descriptor)
    try:
        sock.shutdown(socket.SHUT_WR)
    finally:
        sock.detach()
