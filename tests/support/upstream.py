"""An upstream that responds with scripted bytes and records every byte of each connection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from support import wire
from support.raw_connection import DEADLINE, ConnectionEnded, RawConnection

Script = Callable[[RawConnection], Awaitable[None]]
"""Acts as the upstream on one connection. The connection stays open and records after the script returns."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def respond_with(*responses: bytes) -> Script:
    """Send these responses, one for each request. Further requests get no response."""

    async def script(connection: RawConnection) -> None:
        for response in responses:
            await connection.request()
            await connection.send(response)

    return script


async def always_ok(connection: RawConnection) -> None:
    """Respond to every request with `OK`."""
    while True:
        await connection.request()
        await connection.send(OK)


class RawUpstream:
    """`async with RawUpstream(script) as upstream`: listens on a free port of `host`.

    A script that fails, except with `ConnectionEnded`, fails the test when the upstream closes.
    """

    def __init__(
        self, script: Script = always_ok, *, ssl_context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.connections: list[RawConnection] = []
        """All connections in the order of their acceptance, including closed ones."""
        self.port = 0
        self._script = script
        self._ssl_context = ssl_context
        self._host = host
        self._tasks: list[asyncio.Task[None]] = []
        self._accepted = asyncio.Event()
        self._server: asyncio.Server

    @property
    def received(self) -> list[bytes]:
        """The received bytes of each connection."""
        return [bytes(connection.received) for connection in self.connections]

    @property
    def requests(self) -> list[wire.Message]:
        """Every received request, connection by connection. Raises wire.InvalidMessage if one is cut or ambiguous."""
        return [message for data in self.received for message in wire.requests(data)]

    async def connection(self, number: int = 0) -> RawConnection:
        """Wait for the connection of this number, counted from 0."""
        async with asyncio.timeout(DEADLINE):
            while len(self.connections) <= number:
                self._accepted.clear()
                await self._accepted.wait()
        return self.connections[number]

    async def reset(self) -> None:
        """Close all connections, and start a new record."""
        for connection in self.connections:
            if not connection.lost:
                connection.transport.abort()
                await connection.until_lost()
        self.connections = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: RawConnection(self._accept), self._host, 0, ssl=self._ssl_context
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        try:
            await self._close(error)
        finally:
            await self._server.wait_closed()

    async def _close(self, error: BaseException | None) -> None:
        """End every script and connection, and raise the first error if no other exception is active."""
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            if not connection.lost:
                connection.transport.abort()
                await connection.until_lost()
        failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failures and error is None:
            raise failures[0]

    def _accept(self, connection: RawConnection) -> None:
        self.connections.append(connection)
        self._accepted.set()
        self._tasks.append(asyncio.get_running_loop().create_task(self._play(connection)))

    async def _play(self, connection: RawConnection) -> None:
        try:
            await self._script(connection)
        except ConnectionEnded:
            # The other end closed the connection. The test reads the recorded bytes.
            return
