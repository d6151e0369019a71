"""The sockets of asyncio transports (peer address, pending input, half-close, reset), and limits of buffered bytes."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sidekey.network.socket_filter import refuse_payload, remove_filter

WRITE_BUFFER: Final = 512 << 10
"""Unsent bytes of a connection above which Sidekey pauses reading for it. With one more read, a slow receiver costs at
most 1 MiB. With a lower limit, the two sides of a fast transfer would wait for each other."""

SHORT_PIECE: Final = 4 << 10
"""Pieces of a body that are shorter than this are joined, because no limit counts the overhead of an object."""


def append_piece(pieces: list[bytes], piece: bytes) -> None:
    """Append a piece of a body, joined with the last piece if both are short."""
    if pieces and len(piece) < SHORT_PIECE and len(pieces[-1]) < SHORT_PIECE:
        pieces[-1] += piece
    elif piece:
        pieces.append(piece)


_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which a close sends a reset."""
_READ_SIZE: Final = 64 << 10


def has_input(descriptor: int) -> bool:
    """Return True if the socket has input: bytes, an end of stream, or an error."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def descriptor_of(transport: asyncio.BaseTransport | None) -> int:
    """Return the descriptor of the transport's socket, or -1 if the transport has no open socket."""
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    return -1 if sock is None else sock.fileno()


def address_of(transport: asyncio.BaseTransport | None) -> str:
    """Return the peer's address and port, or `unix`.

    A socket does not know the peer after a reset: then this is `unknown`. It is never empty, which would mean no peer.
    """
    name: object = None if transport is None else transport.get_extra_info("peername")
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "unknown" if name is None else "unix"


def has_no_input(transport: asyncio.BaseTransport | None) -> bool:
    """Return True if the transport's socket has no input."""
    descriptor = descriptor_of(transport)
    return descriptor < 0 or not has_input(descriptor)


def half_close(transport: asyncio.BaseTransport) -> None:
    """Send the end of stream now, if there is a socket. Raises OSError if the peer has reset the connection."""
    descriptor = descriptor_of(transport)
    if descriptor >= 0:
        with _borrowed(descriptor) as sock:
            sock.shutdown(socket.SHUT_WR)


def block_input_if_empty(transport: asyncio.BaseTransport) -> bool:
    """If the socket has no input, block further input and return True: a close then discards nothing.

    A transport closes its socket at the next turn of the loop. Input that arrives until then would be reset.
    """
    descriptor = descriptor_of(transport)
    if descriptor < 0:
        return True
    with _borrowed(descriptor) as sock:
        refuse_payload(sock)
        if has_input(descriptor):
            remove_filter(sock)
            return False
        if sock.family == socket.AF_UNIX:
            # `refuse_payload` does not work for Unix sockets.
            _drop_input(sock)
        return True


def discard_input(transport: asyncio.BaseTransport) -> None:
    """Refuse further input and discard what has arrived, so that a close resets nothing."""
    descriptor = descriptor_of(transport)
    if descriptor >= 0:
        with _borrowed(descriptor) as sock:
            refuse_payload(sock)
            _drop_input(sock)


def _drop_input(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        # There are no packets to drop, but the kernel can stop the peer from sending, for good.
        with suppress(OSError):  # the peer has left
            sock.shutdown(socket.SHUT_RD)
    with suppress(OSError):  # nothing is left to read, or the peer has reset the connection
        while sock.recv(_READ_SIZE, socket.MSG_DONTWAIT):
            pass


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Yield a socket object that does not close the descriptor."""
    sock = socket.socket(fileno=descriptor)
    try:
        yield sock
    finally:
        sock.detach()


def reset(transport: asyncio.Transport) -> None:
    """Close at once, over TCP with a reset, so that a cut message does not look complete."""
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    transport.abort()
