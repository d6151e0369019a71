"""What a transport does not tell of its socket, or does only at the loop's next turn."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sidekey.network.socket_filter import receive_again, refuse_payload

_RESET: Final = struct.pack("ii", 1, 0)
_PIECE: Final = 64 << 10


def has_arrived(descriptor: int) -> bool:
    """Whether something waits to be read: bytes, an end of stream, or an error."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def descriptor_of(transport: asyncio.BaseTransport | None) -> int:
    """The descriptor of a transport's socket; -1 where there is none, or no more."""
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()


def address_of(transport: asyncio.BaseTransport | None) -> str:
    """Address and port of a transport's peer, or `unix`; `unknown` of one that had reset the connection at once.

    Loops ask the socket, which then knows it no more. It is never empty: a peer must not look like none.
    """
    name: object = None if transport is None else transport.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unknown" if name is None else "unix"


def is_quiet(transport: asyncio.BaseTransport | None) -> bool:
    """Whether nothing waits to be read from a transport's socket."""
    descriptor = descriptor_of(transport)
    return descriptor < 0 or not has_arrived(descriptor)


def half_close(transport: asyncio.BaseTransport) -> None:
    """Send the end of stream now, where there is a socket. Raises OSError where the peer has reset the connection."""
    descriptor = descriptor_of(transport)
    if descriptor >= 0:
        with _borrowed(descriptor) as sock:
            sock.shutdown(socket.SHUT_WR)


def seal_if_quiet(transport: asyncio.BaseTransport) -> bool:
    """Let nothing arrive any more where nothing has; whether that is so, and a close resets nothing.

    A transport closes its socket at the loop's next turn, and what arrives until then would be reset.
    """
    descriptor = descriptor_of(transport)
    if descriptor < 0:
        return True
    with _borrowed(descriptor) as sock:
        refuse_payload(sock)
        if has_arrived(descriptor):
            receive_again(sock)
            return False
        if sock.family == socket.AF_UNIX:
            # Nothing was refused before the look.
            _drop_rest(sock)
        return True


def drop_rest(transport: asyncio.BaseTransport) -> None:
    """Let nothing arrive any more, and read and drop what has: a close resets nothing then."""
    descriptor = descriptor_of(transport)
    if descriptor >= 0:
        with _borrowed(descriptor) as sock:
            refuse_payload(sock)
            _drop_rest(sock)


def _drop_rest(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        # No packets that could be dropped: here the kernel keeps a peer from sending, once and for all.
        with suppress(OSError):  # the peer has left
            sock.shutdown(socket.SHUT_RD)
    with suppress(OSError):  # nothing is left to read, or the peer has reset it
        while sock.recv(_PIECE, socket.MSG_DONTWAIT):
            pass


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that stays its owner's."""
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def reset(transport: asyncio.Transport) -> None:
    """Close at once by a reset where the connection is TCP: what was cut does not look complete then."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
