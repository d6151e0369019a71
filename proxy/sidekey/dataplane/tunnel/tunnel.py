"""A tunnel that was admitted: what its first byte says it holds, and who reads requests from it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, cast

from sidekey.core import phases
from sidekey.core.decide import Tunnelled
from sidekey.core.entry import Entry
from sidekey.dataplane.deadlines import NEVER
from sidekey.dataplane.downstream.connection import CallerConnection
from sidekey.dataplane.downstream.request_reader import Request
from sidekey.dataplane.events import CallerEvents
from sidekey.dataplane.exchange.exchange import Exchange
from sidekey.dataplane.routing.compiled import CompiledIntegration
from sidekey.dataplane.routing.index import Index
from sidekey.dataplane.sockets import seal_if_quiet
from sidekey.dataplane.tunnel.tunnels import Tunnels
from sidekey.dataplane.worker import Worker
from sidekey.network.tls_server import handshake_outcome
from sidekey.network.tls_transport import TlsTransport
from sidekey.observe.access import AccessLine
from sidekey.runtime.snapshot import NOBODY

TLS_HANDSHAKE: Final = 0x16
"""The first byte of TLS (RFC 8446 5.1), with which no HTTP method begins."""


class About(NamedTuple):
    """What is told of a CONNECT at the tunnel's end: its id, who has connected, and when it began."""

    request_id: str
    peer: str
    began: float


class Lifetime:
    """What is counted and told of a tunnel: it, its caller's part, its mode once it is open, and its line in the log.

    `phase` is one of `core.phases`. Of the CONNECT's integration only the name is kept: its rules count no more.
    """

    __slots__ = ("_about", "_authority", "_caller", "_integration", "_mode", "_tunnels", "_worker", "phase")

    def __init__(self, worker: Worker, tunnels: Tunnels, opened: Tunnelled[CompiledIntegration], about: About) -> None:
        candidate = opened.candidate
        self.phase = phases.NEGOTIATING
        self._about: Final = about
        self._authority: Final = opened.authority
        self._integration: Final = NOBODY if candidate is None else candidate.name
        self._caller: Final = caller_name(opened)
        self._mode = ""
        self._worker: Final = worker
        self._tunnels: Final = tunnels

    def enter(self, phase: int) -> None:
        """Go to a phase."""
        former = self.phase
        if not phases.AFTER_TUNNEL[former] & phase:
            raise phases.illegal(phases.TUNNEL_NAMES, former, phase)
        self.phase = phase

    def open(self, phase: int, mode: str) -> None:
        """Go to a phase in which the tunnel is of use."""
        self.enter(phase)
        self._mode = mode
        self._worker.metrics.tunnels[mode] += 1
        self._record("opened")

    def _record(self, outcome: str) -> str:
        return self._tunnels.record(self._integration, self._authority.host, outcome, self._about.request_id)

    def end(
        self, outcome: str = "", *, received: int = 0, sent: int = 0, upstream: str = "", connect: float = 0.0
    ) -> bool:
        """Count the tunnel out, once: whether this is its end. `outcome` says why it was never open.

        `received` and `sent` are the bytes that have passed, `upstream` is where to, and `connect` how long it took to
        connect there.
        """
        former = self.phase
        if former == phases.ENDED:
            return False
        self.enter(phases.ENDED)
        if self._mode:
            self._worker.metrics.tunnels[self._mode] -= 1
        reason = self._record(outcome) if outcome else ""
        self._tunnels.leave(self._caller)
        access = self._worker.access
        # Where the CONNECT was refused, that is told by who refused it.
        if former != phases.NEGOTIATING and (access.every or (reason and access.errors)):
            about, authority = self._about, self._authority
            line = AccessLine(
                integration=self._integration,
                caller=self._caller,
                door="tunnel",
                method="CONNECT",
                host=authority.host,
                port=authority.port,
                status=200,
                code="",
                reason=reason,
                error="",
                attempt="",
                request_id=about.request_id,
                trace_id="",
                peer=about.peer,
                upstream=upstream,
                duration=self._worker.clock() - about.began,
                grant=0.0,
                connect=connect,
                first_byte=0.0,
                bytes_in=received,
                bytes_out=sent,
            )
            access.write(line)
        return True


def caller_name(opened: Tunnelled[CompiledIntegration]) -> str:
    """The caller that a tunnel counts for; empty where callers are not checked."""
    return "" if opened.caller is None else opened.caller.name


class TunnelledConnection(CallerConnection):
    """A caller's connection inside a tunnel, over TLS or TCP."""

    __slots__ = ("_tunnel",)

    def __init__(self, worker: Worker, tunnel: Tunnel) -> None:
        super().__init__(worker, tunnel.start)
        self._tunnel: Final = tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The tunnel is open: TLS is done, or was never begun."""
        self._tunnel.opened()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """So the tunnel has ended."""
        super().connection_lost(error)
        self._tunnel.closed()


class Tunnel(asyncio.Protocol):
    """A tunnel in which requests are read, from its 200 on.

    It is the protocol of the caller's transport until the first byte has come. Then a connection is, as at any other
    way in; over TLS where that byte begins TLS, which then goes by `context`.
    """

    __slots__ = (
        "_context",
        "_entry",
        "_full",
        "_index",
        "_lifetime",
        "_plain",
        "_tls",
        "_transport",
        "_waiting_since",
        "_worker",
        "deadline",
    )

    def __init__(
        self,
        worker: Worker,
        index: Index,
        lifetime: Lifetime,
        opened: Tunnelled[CompiledIntegration],
        context: ssl.SSLContext,
    ) -> None:
        self.deadline = NEVER
        self._worker = worker
        self._index = index
        self._lifetime = lifetime
        self._entry = opened.entry("https")
        self._plain: Entry | None = opened.entry("http")
        self._context: ssl.SSLContext | None = context
        self._tls: TlsTransport | None = None
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._waiting_since = NEVER

    # From the CONNECT to the first request.

    def begin(self, transport: asyncio.Transport, data: bytes, *, full: bool) -> None:
        """Take the caller's transport, whose reading is paused, and what came behind the CONNECT; 200 was written.

        `full` says that the caller takes no more until `resume_writing`.
        """
        worker = self._worker
        self._lifetime.enter(phases.WAITING)
        self._transport = transport
        self._full = full
        self._waiting_since = now = worker.deadlines.now
        self.deadline = now + worker.rules.timeouts.request_head
        worker.deadlines.watch(self)
        transport.set_protocol(self)
        # First, since what takes the data may have to pause again.
        transport.resume_reading()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """The first bytes: TLS, or HTTP without it."""
        transport = self._transport
        if transport is None or self._lifetime.phase != phases.WAITING:
            return
        connection = TunnelledConnection(self._worker, self)
        if data[0] != TLS_HANDSHAKE:
            if self._plain is not None:
                self._entry = self._plain
            transport.set_protocol(connection)
            connection.connection_made(transport)
            if self._full:
                connection.pause_writing()
            connection.data_received(data)
            return
        self._lifetime.enter(phases.HANDSHAKE)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(self._shaken)
        tls = self._tls = TlsTransport(connection, cast(ssl.SSLContext, self._context), None, None, ready)
        # Loops look at how a protocol takes its bytes when they begin to read.
        transport.pause_reading()
        transport.set_protocol(tls)
        tls.connection_made(transport)
        tls.received(data)
        if not transport.is_closing():
            transport.resume_reading()

    def _shaken(self, ready: asyncio.Future[None]) -> None:
        """The handshake has ended; where it has failed, so has the tunnel."""
        error = None if ready.cancelled() else ready.exception()
        if error is not None:
            tls = self._tls
            self._end(handshake_outcome(error, certificate_sent=tls is not None and tls.has_spoken))

    def opened(self) -> None:
        """A connection takes over, and with it the place among the worker's."""
        mode = "plain" if self._tls is None else "terminated"
        self._release()
        self._lifetime.open(phases.OPEN, mode)

    def start(self, connection: CallerConnection, request: Request) -> CallerEvents:
        """What answers a request that was read inside."""
        return Exchange(self._worker, self._index, connection, request, self._entry)

    def closed(self) -> None:
        """The connection inside is closed."""
        self._lifetime.end()

    def _release(self) -> None:
        self._worker.closed(self)
        self._worker.deadlines.forget(self)
        self._context = self._tls = self._transport = self._plain = None

    def _end(self, outcome: str) -> None:
        """It was never opened."""
        if self._lifetime.end(outcome):
            self._release()

    # While nothing has taken over.

    def resume_writing(self) -> None:
        """The caller takes more: over TLS always before the handshake ends, since it answers what was sent last."""
        self._full = False

    def eof_received(self) -> bool:
        """The caller has left."""
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """The caller has left before the first byte."""
        self._end("caller_gone")

    def expired(self) -> None:
        """No first byte came, or no end of the handshake."""
        self._abort("timeout")

    def _abort(self, outcome: str) -> None:
        transport = self._transport
        self._end(outcome)
        if transport is not None:
            transport.abort()

    @property
    def idle_since(self) -> float:
        """Since when the first byte is awaited; NEVER where it has come."""
        return self._waiting_since if self._lifetime.phase == phases.WAITING else NEVER

    @property
    def unsent(self) -> bool:
        """A tunnel without requests has no response that could be cut."""
        return False

    def close_if_idle(self) -> bool:
        """Close it where no first byte has come; whether it did."""
        transport = self._transport
        if self.idle_since == NEVER or transport is None or not seal_if_quiet(transport):
            return False
        self._end("caller_gone")
        transport.close()
        return True

    def wind_down(self, *, patient: bool) -> None:
        """Let what has begun go on."""
        if not patient:
            self.close_if_idle()

    def end(self) -> None:
        """Close it now."""
        self._abort("caller_gone")
