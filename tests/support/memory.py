"""Connections without sockets: two transports in this process that pass writes to each other, read by read."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self, TypeVar

from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.guard import OwnListener, require_permitted
from sidekey.network.resolve import Resolver
from sidekey.policy.urls import Origin
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import NetworkRules
from support import plane
from support.protocols import receive
from support.raw_connection import RawConnection
from support.scripted import GatedDialer
from support.upstream import RawUpstream, Script, always_ok

P = TypeVar("P", bound=asyncio.Protocol)
Factory = Callable[[], asyncio.Protocol]

ROOM = 256 << 10
"""Size of the receive buffer in bytes, as in a kernel."""

_RESET = struct.pack("ii", 1, 0)
_HERE = ip_address("127.0.0.1")
_listening: dict[int, Factory] = {}
_ports = iter(range(20_000, 1 << 30))


class MemorySocket:
    """The socket of a transport, with what a reset needs."""

    family = socket.AF_INET
    resets = False

    def setsockopt(self, _level: int, option: int, value: object) -> None:
        assert (option, value) == (socket.SO_LINGER, _RESET)
        self.resets = True

    def fileno(self) -> int:
        """Return no descriptor that could be polled."""
        return -1


class MemoryTransport(asyncio.Transport):
    """One end of a connection. `peer` is the other end."""

    peer: MemoryTransport

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol: Any = protocol
        self._socket = MemorySocket()
        self._unsent: deque[bytes] = deque()
        self._arrived: deque[bytes] = deque()
        self._unsent_size = self._arrived_size = 0
        self._high = 64 << 10
        self._reading = True
        self._full = False
        self._closing = False
        self._ended = self._end_is_sent = False
        self._lost = False
        self._end: Callable[[], None] | None = None
        """Reports the end of the other end, after all received bytes are delivered."""

    # Methods for the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._ended or self._closing, "write after the end"
        if data and not self._closing:
            self._unsent.append(bytes(data))
            self._unsent_size += len(data)
            self._pump()
            if self.get_write_buffer_size() > self._high and not self._full:
                self._full = True
                self._protocol.pause_writing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._ended = True
        self._pump()

    def close(self) -> None:
        if not self._closing:
            self._closing = self._ended = True
            self._pump()

    def abort(self) -> None:
        self._closing = self._ended = True
        self._unsent.clear()
        self._unsent_size = 0
        self._pump(reset=self._socket.resets)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        return self._unsent_size

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._socket if name == "socket" else default

    # From one end to the other.

    def _pump(self, *, reset: bool = False) -> None:
        """Send as many bytes as the other end has room for, then the end of the stream.

        The other end gets only new data: otherwise two ends that do not read would call each other forever.
        """
        peer, is_new = self.peer, False
        while self._unsent and not peer._lost and (room := ROOM - peer._arrived_size) > 0:
            piece = self._unsent.popleft()
            if len(piece) > room:
                self._unsent.appendleft(piece[room:])
                piece = piece[:room]
            self._unsent_size -= len(piece)
            peer._arrived_size += len(piece)
            peer._arrived.append(piece)
            is_new = True
        if self._unsent and peer._lost:
            self._unsent.clear()
            self._unsent_size = 0
            self._loop.call_soon(self._lose, ConnectionResetError())
            if not self._full:
                self._protocol.pause_writing()
            return
        if not self._unsent:
            if self._full:
                self._full = False
                self._loop.call_soon(self._drained)
            if self._ended and not self._end_is_sent:
                self._end_is_sent = is_new = True
                peer._end = functools.partial(peer._lose, ConnectionResetError()) if reset else peer._finish
            if self._closing:
                self._loop.call_soon(self._lose, None)
        if is_new:
            self._loop.call_soon(peer._deliver)

    def _drained(self) -> None:
        if not self._lost:
            self._protocol.resume_writing()

    def _deliver(self) -> None:
        while self._arrived and self._reading and not self._closing:
            piece = self._arrived.popleft()
            self._arrived_size -= len(piece)
            rest = receive(self._protocol, piece)
            if rest:
                self._arrived.appendleft(rest)
                self._arrived_size += len(rest)
        if self.peer._unsent:
            self.peer._pump()
        if self._end is not None and not self._arrived and self._reading and not self._lost:
            end, self._end = self._end, None
            end()

    def _finish(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._protocol.connection_lost(error)
            self._loop.call_soon(self.peer._pump)


def link(client: P, server: asyncio.Protocol) -> P:
    """Connect two protocols, and return the client."""
    ends = MemoryTransport(client), MemoryTransport(server)
    ends[0].peer, ends[1].peer = reversed(ends)
    server.connection_made(ends[1])
    client.connection_made(ends[0])
    return client


class MemoryDialer(GatedDialer):
    """Resolves and checks addresses like the real dialer, and connects to listeners in this process."""

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, *, timeout: float, **_: Any) -> P:
        await self.pass_gate()
        deadline = asyncio.get_running_loop().time() + timeout
        allowed = self._rules.allowed_networks(egress.allow_private)
        resolved = await self._resolver.resolve(origin.host, deadline)
        addresses = require_permitted(resolved, origin.port, allowed, self.own_listeners)
        listener = _listening.get(origin.port)
        if listener is None or _HERE not in addresses:
            refused = "the upstream refused the connection"
            raise ProblemError(Problem("upstream_unreachable", refused, error="connection_refused"))
        return link(factory(), listener())


class MemoryLayer(plane.SocketLayer):
    """Replaces the sockets of a data plane and its callers. Time passes only in `RunningPlane.advance`."""

    ticks = False

    def dialer(self, rules: NetworkRules, resolver: Resolver | None) -> Dialer:
        return MemoryDialer(rules, resolver=resolver)

    async def listen(self, factory: Factory, port: int) -> tuple[OwnListener, Callable[[], object]]:
        port = port or next(_ports)
        _listening[port] = factory
        return OwnListener(_HERE, port), lambda: _listening.pop(port, None)

    @asynccontextmanager
    async def connect(self, port: int) -> AsyncIterator[RawConnection]:
        caller = link(RawConnection(), _listening[port]())
        try:
            yield caller
        finally:
            caller.transport.abort()
            await caller.until_lost()


running = functools.partial(plane.running, carrier=MemoryLayer())
"""`plane.running` without sockets."""


class MemoryUpstream(RawUpstream):
    """`RawUpstream` without sockets."""

    def __init__(self, script: Script = always_ok) -> None:
        super().__init__(script)
        self.port = next(_ports)

    async def __aenter__(self) -> Self:
        _listening[self.port] = lambda: RawConnection(self._accept)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _listening.pop(self.port, None)
        await self._close(error)
