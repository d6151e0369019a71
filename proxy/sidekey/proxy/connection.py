"""Base class of connections of callers and to upstreams: it pauses and resumes reading, and reads long bodies."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import abstractmethod
from fcntl import ioctl
from termios import FIONREAD
from typing import Final, cast

from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.transport import WRITE_BUFFER, address_of, descriptor_of
from sidekey.proxy.worker import Worker

PARSER_BYPASS: Final = 64 << 10
"""A Content-Length body skips the parser if more than this many bytes of it are still to come."""

MAX_DIRECT_READ: Final = 512 << 10
"""Sidekey reads a socket directly, past the loop, while at least this much of a body is still to come.

A direct read has at most this size.
"""

LONG_READ: Final = 128 << 10
"""A read of at least this size suggests that the next one is as long."""

_READS_PER_TURN: Final = 2
"""Direct reads before other connections have their turn."""

_INT: Final = bytes(4)
"""Receives the result of FIONREAD."""

PAUSED_FOR_TURN: Final = 1
"""The reason to pause the transport while the socket is read directly. Subclasses add further bits."""


class Connection(asyncio.Protocol):
    """One connection, of a caller or to an upstream.

    `address` is the peer's address with its port, or `unknown` if the peer reset the connection at once. `full` is True
    while the write buffer is full, because the peer reads too slowly. `_paused` has a bit for each reason to pause
    reading. `_unparsed` is the number of bytes still to come of a body that skips the parser.

    The loop reads at most 256 KiB at a time, into memory of its own that it copies, and uvloop reads up to 32 times in
    a row before it serves other connections. So after a long read, a connection without TLS pauses its transport and
    reads the socket directly, in turns with other connections. That means fewer system calls and no copy.
    """

    __slots__ = ("_paused", "_unparsed", "address", "deadline", "full", "transport", "worker")

    transport: asyncio.Transport

    def __init__(self, worker: Worker) -> None:
        self.worker: Final = worker
        self.address = ""
        self.deadline = NEVER
        self.full = False
        self._paused = 0
        self._unparsed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Attach the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_BUFFER)
        self.address = address_of(transport)
        self.worker.deadlines.watch(self)

    @abstractmethod
    def expired(self) -> None:
        """Handle a deadline that has passed."""

    def _pause(self, reason: int) -> None:
        if not self._paused and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused:
            self._paused &= ~reason
            if not self._paused and not self.transport.is_closing():
                self.transport.resume_reading()

    # Long bodies.

    @abstractmethod
    def _add_unparsed(self, piece: bytes, *, is_last: bool) -> None:
        """Add a piece of a body that skips the parser."""

    def _receive_unparsed(self, data: bytes) -> bytes:
        """Add a read that skips the parser to the body. Return the bytes after the end of the body."""
        left = self._unparsed - len(data)
        rest = b""
        if left < 0:
            data, rest = data[: self._unparsed], data[self._unparsed :]
            left = 0
        self._unparsed = left
        self._add_unparsed(data, is_last=not left)
        if left > MAX_DIRECT_READ and len(data) >= LONG_READ and not self._paused and self._can_read_directly():
            self._pause(PAUSED_FOR_TURN)
            asyncio.get_running_loop().call_soon(self._read_directly)
        return rest

    def _can_read_directly(self) -> bool:
        """Return True if the transport is a socket without TLS."""
        return self.transport.get_extra_info("ssl_object") is None and descriptor_of(self.transport) >= 0

    def _read_directly(self) -> None:
        """Read the socket. Then let other connections have their turn, or leave the rest to the loop if it is short."""
        for _ in range(_READS_PER_TURN):
            data = self._read_socket() if self._paused == PAUSED_FOR_TURN and self._unparsed >= MAX_DIRECT_READ else b""
            if not data:
                self._resume(PAUSED_FOR_TURN)
                return
            try:
                self.data_received(data)
            except BaseException:
                # The loop reports the defect. It would also cut the connection after a read of its own.
                self.transport.abort()
                raise
        asyncio.get_running_loop().call_soon(self._read_directly)

    def _read_socket(self) -> bytes:
        """Read what has arrived, up to MAX_DIRECT_READ bytes. Return nothing if that is shorter than LONG_READ."""
        if self.transport.is_closing():
            # Another connection may have the descriptor now.
            return b""
        descriptor = descriptor_of(self.transport)
        try:
            arrived = int.from_bytes(ioctl(descriptor, FIONREAD, _INT), sys.byteorder)
        except OSError:
            # A sandbox may refuse FIONREAD: leave the body to the loop.
            return b""
        if arrived < LONG_READ:
            return b""
        try:
            # A larger buffer would be shrunk, and the rest of it could not serve the next read.
            return os.read(descriptor, min(arrived, MAX_DIRECT_READ))
        except OSError:
            # The kernel reports a reset only once: the loop would see a normal end of stream.
            self.transport.abort()
            return b""
