"""Long bodies are received in long reads: fewer calls into the kernel, fewer wake-ups of who sends, and no copy.

A loop reads at most 256 KiB at a time, into memory of its own that is copied. Where that was all, uvloop reads again at
once, up to 32 times: who sends fast enough would hold up everybody else. So once a read of a long body was long, the
loop's reading is paused, and the socket is read past it in turns, as long as much is there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD
from typing import Final

from sidekey.dataplane.buffers import BULK
from sidekey.dataplane.sockets import descriptor_of

LONG: Final = 128 << 10
"""A read of at least so many bytes is long: the next one is likely to be."""

IN_A_ROW: Final = 2
"""Reads of one connection after which others have their turn."""

_INT: Final = bytes(4)
"""Where the kernel puts how many bytes have arrived."""


def is_bare(transport: asyncio.Transport) -> bool:
    """Whether a transport passes on what it reads from a socket as it is: TLS does not."""
    return transport.get_extra_info("ssl_object") is None and descriptor_of(transport) >= 0


def read_on(transport: asyncio.Transport, receive: Callable[[bytes], None], wants: Callable[[], bool]) -> bool:
    """Have the protocol of a bare transport, whose reading is paused, receive more as long as it `wants` more.

    Whether to go on once others have had their turn. Else the loop is to read again: little is there, or nothing, or
    the stream has ended.
    """
    for _ in range(IN_A_ROW):
        if not wants():
            return False
        data = _read(transport)
        if not data:
            return False
        try:
            receive(data)
        except BaseException:
            # As a loop has it: it is reported, and what the connection carries is cut.
            transport.abort()
            raise
    return True


def _read(transport: asyncio.Transport) -> bytes:
    """What has arrived, BULK bytes at most; empty where that is less than LONG."""
    if transport.is_closing():
        # Its descriptor may be another connection's by now.
        return b""
    descriptor = descriptor_of(transport)
    try:
        arrived = int.from_bytes(ioctl(descriptor, FIONREAD, _INT), sys.byteorder)
    except OSError:
        # A sandbox may refuse it: then all is left to the loop.
        return b""
    if arrived < LONG:
        return b""
    try:
        # No memory is asked for that is not used: what was left of it could not serve the next read.
        return os.read(descriptor, min(arrived, BULK))
    except OSError:
        # A reset, which is told once: the loop would find a stream that has ended.
        transport.abort()
        return b""
