"""A connection that records every byte, for callers and upstreams."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from support import wire

DEADLINE = 45.0
"""Time limit of a wait in seconds. No passing test takes as long, and no test measures time with it."""


class ConnectionEnded(ConnectionError):
    """The other end closed or reset the connection before the expected bytes arrived."""


class RawConnection(asyncio.Protocol):
    """Records bytes in `received`. `consumed` counts the bytes of messages that the test has read."""

    def __init__(self, on_connected: Callable[[RawConnection], None] | None = None) -> None:
        self.received = bytearray()
        self.consumed = 0
        self.ended = False
        """The other end sent FIN (over TLS: close_notify)."""
        self.lost = False
        """The connection is closed. After a reset, `error` is set."""
        self.error: Exception | None = None
        self.transport: asyncio.Transport
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._on_connected = on_connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> bool:
        self.ended = True
        self._changed.set()
        # Keep writing after FIN if the transport can: tests cover half-closed connections.
        return self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.error = exc
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def until(self, is_done: Callable[[], bool], seconds: float | None = DEADLINE) -> None:
        """Wait for a condition on the received bytes. Raises ConnectionEnded, or TimeoutError."""
        await self._until(is_done, lambda: self.ended or self.lost, seconds)

    async def _until(
        self, is_done: Callable[[], bool], hopeless: Callable[[], bool], seconds: float | None = DEADLINE
    ) -> None:
        async with asyncio.timeout(seconds):
            while not is_done():
                if hopeless():
                    raise ConnectionEnded(f"the connection ended after {bytes(self.received)!r}")
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, size: int) -> bytes:
        """Wait until `size` bytes are received, and return all received bytes."""
        await self.until(lambda: len(self.received) >= size)
        return bytes(self.received)

    async def until_contains(self, mark: bytes) -> bytes:
        """Wait until `mark` is received, and return all received bytes."""
        await self.until(lambda: mark in self.received)
        return bytes(self.received)

    async def until_ended(self) -> bytes:
        """Wait until the other end closes or resets the connection, and return all received bytes."""
        await self.until(lambda: self.ended or self.lost)
        return bytes(self.received)

    async def until_lost(self) -> None:
        """Wait until both ends are closed."""
        await self._until(lambda: self.lost, lambda: False)

    async def request(self) -> wire.Message:
        """Read the next complete request, after any idle time. Raises wire.InvalidMessage, ConnectionEnded."""
        return await self._message(wire.first_request, None)

    async def response(self, *, to_head: bool = False) -> wire.Message:
        """Read the next complete response, including interim ones. Raises wire.InvalidMessage, ConnectionEnded."""
        return await self._message(lambda data: wire.first_response(data, to_head=to_head, ended=self.ended))

    async def _message(
        self, first: Callable[[bytes], wire.Message | None], seconds: float | None = DEADLINE
    ) -> wire.Message:
        message: wire.Message | None = None

        def complete() -> bool:
            nonlocal message
            message = first(bytes(self.received[self.consumed :]))
            return message is not None

        await self.until(complete, seconds)
        assert message is not None
        self.consumed += message.length
        return message

    async def send(self, data: bytes) -> None:
        """Write, and wait while the other end does not read. Raises ConnectionEnded."""
        if self.lost:
            raise ConnectionEnded("the connection was closed before sending")
        self.transport.write(data)
        async with asyncio.timeout(DEADLINE):
            await self._writable.wait()
        if self.lost:
            raise ConnectionEnded("the connection was closed while sending")

    def close(self) -> None:
        """Close the connection after all bytes are sent."""
        self.transport.close()

    def reset(self) -> None:
        """Reset the connection, and drop unsent bytes."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


@asynccontextmanager
async def connect(
    port: int, *, host: str = "127.0.0.1", source: str | None = None, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[RawConnection]:
    """`async with connect(port) as caller`: connect as a caller, and close the connection at the end.

    `source` is the local address.
    """
    loop = asyncio.get_running_loop()
    local = None if source is None else (source, 0)
    _, connection = await loop.create_connection(RawConnection, host, port, ssl=ssl_context, local_addr=local)
    try:
        yield connection
    finally:
        connection.transport.abort()
        await connection.until_lost()


async def accepts(port: int) -> bool:
    """Return True if the port of 127.0.0.1 accepts a new connection."""
    try:
        async with connect(port):
            return True
    except ConnectionRefusedError:
        return False
