"""A tunnel that was admitted. Its first byte decides whether it contains TLS or plain HTTP."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, NamedTuple, cast

from sidekey.network.tls_server import handshake_outcome
from sidekey.network.tls_transport import TlsTransport
from sidekey.observe.access import AccessLine
from sidekey.policy.decision import TunnelAdmitted
from sidekey.policy.tunnel import TunnelContext
from sidekey.proxy import states
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.downstream.certified_rules import CertifiedRules
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.proxy.routing.compiled import CompiledIntegration
from sidekey.proxy.routing.router import Router
from sidekey.proxy.transport import block_input_if_empty
from sidekey.proxy.tunnel.registry import Tunnels
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import NO_INTEGRATION

TLS_HANDSHAKE: Final = 0x16
"""The first byte of TLS (RFC 8446 5.1), with which no HTTP method begins."""


class ConnectInfo(NamedTuple):
    """The ID, peer and start of a CONNECT, for the tunnel's line in the log."""

    request_id: str
    peer: str
    began: float


class TunnelRecord:
    """Bookkeeping of one tunnel: its phase, counters, and line in the log.

    `phase` is one of `proxy.states`. The record keeps only the name of the CONNECT's integration, because Sidekey
    decides on each request in the tunnel by the current rules.
    """

    __slots__ = ("_authority", "_caller_name", "_connect_info", "_integration", "_mode", "_tunnels", "_worker", "phase")

    def __init__(
        self,
        worker: Worker,
        tunnels: Tunnels,
        admission: TunnelAdmitted[CompiledIntegration],
        connect_info: ConnectInfo,
    ) -> None:
        candidate = admission.candidate
        self.phase = states.NEGOTIATING
        self._connect_info: Final = connect_info
        self._authority: Final = admission.authority
        self._integration: Final = NO_INTEGRATION if candidate is None else candidate.name
        self._caller_name: Final = caller_name(admission)
        self._mode = ""
        self._worker: Final = worker
        self._tunnels: Final = tunnels

    def enter_phase(self, phase: int) -> None:
        """Enter a phase."""
        previous = self.phase
        if not states.AFTER_TUNNEL[previous] & phase:
            raise states.illegal(states.TUNNEL_NAMES, previous, phase)
        self.phase = phase

    def open(self, phase: int, mode: str) -> None:
        """Enter a phase in which the tunnel carries data."""
        self.enter_phase(phase)
        self._mode = mode
        self._worker.metrics.tunnels[mode] += 1
        self._count_outcome("opened")

    def _count_outcome(self, outcome: str) -> str:
        return self._tunnels.record(self._integration, self._authority.host, outcome, self._connect_info.request_id)

    def end(
        self, outcome: str = "", *, received: int = 0, sent: int = 0, upstream: str = "", connect: float = 0.0
    ) -> bool:
        """Count the tunnel as ended and log it. Return False if it had ended before.

        `outcome` is the reason if it was never open. The other arguments describe a passthrough tunnel: the bytes from
        and to the caller, the address of the upstream, and the seconds to connect to it.
        """
        previous = self.phase
        if previous == states.ENDED:
            return False
        self.enter_phase(states.ENDED)
        if self._mode:
            self._worker.metrics.tunnels[self._mode] -= 1
        reason = self._count_outcome(outcome) if outcome else ""
        self._worker.leave_tunnel(self._caller_name)
        access = self._worker.access
        # The refusal of a CONNECT was logged with its response.
        if previous != states.NEGOTIATING and (access.logs_all or (reason and access.logs_errors)):
            connect_info, authority = self._connect_info, self._authority
            line = AccessLine(
                integration=self._integration,
                caller=self._caller_name,
                door="tunnel",
                method="CONNECT",
                host=authority.host,
                port=authority.port,
                status=200,
                code="",
                reason=reason,
                error="",
                attempt="",
                request_id=connect_info.request_id,
                trace_id="",
                peer=connect_info.peer,
                upstream=upstream,
                duration=self._worker.clock() - connect_info.began,
                grant=0.0,
                connect=connect,
                first_byte=0.0,
                bytes_in=received,
                bytes_out=sent,
            )
            access.write(line)
        return True


def caller_name(admission: TunnelAdmitted[CompiledIntegration]) -> str:
    """Return the name of the tunnel's caller. It is empty if callers are not checked."""
    return "" if admission.caller is None else admission.caller.name


class TunnelledConnection(CallerConnection):
    """A caller's connection inside a tunnel, over TLS or TCP."""

    __slots__ = ("_tunnel",)

    def __init__(self, worker: Worker, tunnel: Tunnel) -> None:
        super().__init__(worker, tunnel.start)
        self.certified = tunnel.certified
        self._tunnel: Final = tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the tunnel: the TLS handshake is complete, or there is no TLS."""
        self._tunnel.opened()
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End the tunnel."""
        super().connection_lost(error)
        self._tunnel.closed()

    def transport_closed(self) -> None:
        """End the tunnel."""
        self._tunnel.closed()


class Tunnel(asyncio.Protocol):
    """A tunnel that carries requests. It begins with the 200 response to the CONNECT.

    It is the protocol of the caller's transport until the first byte arrives. Then a `TunnelledConnection` takes over.
    If the first byte begins TLS, Sidekey terminates TLS with `context`. `certified` is that of the connection with the
    CONNECT.
    """

    __slots__ = (
        "_context",
        "_full",
        "_plain",
        "_record",
        "_router",
        "_tls",
        "_transport",
        "_tunnel_context",
        "_waiting_since",
        "_worker",
        "certified",
        "deadline",
    )

    def __init__(
        self,
        worker: Worker,
        router: Router,
        record: TunnelRecord,
        admission: TunnelAdmitted[CompiledIntegration],
        context: ssl.SSLContext,
        *,
        certified: CertifiedRules | None,
    ) -> None:
        self.deadline = NEVER
        self.certified: Final = certified
        self._worker = worker
        self._router = router
        self._record = record
        self._tunnel_context = admission.context("https")
        self._plain: TunnelContext | None = admission.context("http")
        self._context: ssl.SSLContext | None = context
        self._tls: TlsTransport | None = None
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._waiting_since = NEVER

    # From the CONNECT to the first request.

    def begin(self, transport: asyncio.Transport, data: bytes, *, full: bool) -> None:
        """Take over the caller's paused transport after the 200 response. `data` are the bytes after the CONNECT.

        `full` is True if the write buffer is full until `resume_writing`.
        """
        worker = self._worker
        self._record.enter_phase(states.WAITING)
        self._transport = transport
        self._full = full
        self._waiting_since = now = worker.deadlines.now
        self.deadline = now + worker.rules.timeouts.request_head
        worker.deadlines.watch(self)
        transport.set_protocol(self)
        # Before the data, which may pause reading again.
        transport.resume_reading()
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Start TLS or plain HTTP with the first bytes."""
        transport = self._transport
        if transport is None or self._record.phase != states.WAITING:
            return
        connection = TunnelledConnection(self._worker, self)
        if data[0] != TLS_HANDSHAKE:
            if self._plain is not None:
                self._tunnel_context = self._plain
            transport.set_protocol(connection)
            connection.connection_made(transport)
            if self._full:
                connection.pause_writing()
            connection.data_received(data)
            return
        self._record.enter_phase(states.HANDSHAKE)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ready.add_done_callback(self._handshake_ended)
        tls = self._tls = TlsTransport(connection, cast(ssl.SSLContext, self._context), None, None, ready)
        # A loop checks the type of the protocol only when it begins to read.
        transport.pause_reading()
        transport.set_protocol(tls)
        tls.connection_made(transport)
        tls.data_received(data)
        if not transport.is_closing():
            transport.resume_reading()

    def _handshake_ended(self, ready: asyncio.Future[None]) -> None:
        """End the tunnel if the handshake has failed."""
        error = None if ready.cancelled() else ready.exception()
        if error is not None:
            tls = self._tls
            self._end(handshake_outcome(error, certificate_sent=tls is not None and tls.has_spoken))

    def opened(self) -> None:
        """Count the tunnel as open. The connection inside has taken over the transport."""
        mode = "plain" if self._tls is None else "terminated"
        self._release()
        self._record.open(states.OPEN, mode)

    def start(self, connection: CallerConnection, request: CallerRequest) -> CallerEvents:
        """Create the exchange for a request in the tunnel."""
        return Exchange(self._worker, self._router, connection, request, self._tunnel_context)

    def closed(self) -> None:
        """End the tunnel with the connection inside."""
        self._record.end()

    def _release(self) -> None:
        self._worker.unregister(self)
        self._worker.deadlines.forget(self)
        self._context = self._tls = self._transport = self._plain = None

    def _end(self, outcome: str) -> None:
        """End a tunnel that was never open."""
        if self._record.end(outcome):
            self._release()

    # Until a connection takes over.

    def resume_writing(self) -> None:
        """Record that the write buffer has drained. With TLS this happens before the handshake ends."""
        self._full = False

    def eof_received(self) -> bool:
        """Close the transport."""
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """End the tunnel: the caller has left."""
        self._end("caller_gone")

    def expired(self) -> None:
        """Abort the tunnel: the first byte or the end of the handshake is late."""
        self._abort("timeout")

    def _abort(self, outcome: str) -> None:
        transport = self._transport
        self._end(outcome)
        if transport is not None:
            transport.abort()

    @property
    def idle_since(self) -> float:
        """The time since which the tunnel waits for the first byte; NEVER if it has arrived."""
        return self._waiting_since if self._record.phase == states.WAITING else NEVER

    @property
    def unsent(self) -> bool:
        """False: there is no response yet."""
        return False

    def close_if_idle(self) -> bool:
        """Close the tunnel and return True if no first byte has arrived."""
        transport = self._transport
        if self.idle_since == NEVER or transport is None or not block_input_if_empty(transport):
            return False
        self._end("caller_gone")
        transport.close()
        return True

    def wind_down(self, *, patient: bool) -> None:
        """Close the tunnel if no first byte has arrived."""
        if not patient:
            self.close_if_idle()

    def end(self) -> None:
        """Close the tunnel now."""
        self._abort("caller_gone")
