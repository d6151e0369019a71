"""A data plane without sockets: scripted conversations as bytes for protocols, with transports that record."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from typing import Any, TypeVar, cast

from sidekey.ca.leaf_source import LeafSource
from sidekey.config.build.snapshot import build_matching, build_passthrough
from sidekey.credentials.base import Grant, GrantSource
from sidekey.credentials.certificates.identity import ClientIdentity, IdentitySource
from sidekey.network.dial import Dialer
from sidekey.network.resolve import Resolver
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.observe.writer import LineWriter
from sidekey.policy.urls import Origin
from sidekey.proxy.data_plane import DataPlane
from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.snapshot import Integration, Listen, NetworkRules, Preset, Snapshot
from support import wire
from support.leaves import NoLeaves
from support.plane import GRANT, LIMITS, MOZILLA, NO_TOKENS, TIMEOUTS, FixedSource, callers_of, source_of
from support.protocols import receive

P = TypeVar("P", bound=asyncio.Protocol)

DISCARD = LineWriter(os.open(os.devnull, os.O_WRONLY))


class RecordingTransport(asyncio.Transport):
    """Records writes. `block_writes` makes the next write find a full buffer, `allow_writes` empties it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.history = bytearray()
        """All written bytes, also those that `read` has returned."""
        self.ended = False
        """FIN follows the written bytes."""
        self.aborted = False
        self.reading = True
        self.protocol = protocol
        self.sock: socket.socket | FileIO | None = None
        """Result of `get_extra_info("socket")`. Tests set it for reads that bypass the loop."""
        self._blocked = False
        self._full = False
        self._waiting: list[bytes] = []
        self._closing = self._lost = False
        protocol.connection_made(self)

    # Methods for the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self.ended:
            return
        self.written += data
        self.history += data
        if self._blocked and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = self._closing = True
        if not self._full:
            self._lose(None)

    def abort(self) -> None:
        self.aborted = True
        self._lose(None)

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def pause_reading(self) -> None:
        assert not self.is_closing(), "the transport is closing"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.is_closing(), "the transport is closing"
        self.reading = True
        asyncio.get_running_loop().call_soon(self._flush)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert protocol is not self.protocol, "the protocol is set already"
        self.protocol = cast(asyncio.Protocol, protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ignore the limits: the test decides when the buffer is full."""

    def get_write_buffer_size(self) -> int:
        return 1 << 16 if self._full else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default

    # Methods for the test.

    @property
    def truncated(self) -> bool:
        """Return True if the other end can detect a truncated message."""
        return self.aborted

    def feed(self, *pieces: bytes) -> None:
        """Deliver each piece as one read, while the protocol reads."""
        self._waiting += pieces
        self._flush()

    def finish(self) -> None:
        """Close the other end after its last bytes."""
        self._flush()
        if not self._lost:
            self.protocol.eof_received()
            self._lose(None)

    def fail(self, error: Exception) -> None:
        """Fail the connection."""
        self._lose(error)

    def block_writes(self) -> None:
        self._blocked = True

    def drain_once(self) -> None:
        """Empty the buffer, and fill it with the next write."""
        self._full = False
        self.protocol.resume_writing()

    def allow_writes(self) -> None:
        self._blocked = False
        if self._full:
            self._full = False
            self.protocol.resume_writing()

    def read(self) -> bytes:
        """Return the bytes written since the last call."""
        data = bytes(self.written)
        self.written.clear()
        return data

    def _flush(self) -> None:
        while self._waiting and self.reading and not self._lost:
            rest = receive(self.protocol, self._waiting.pop(0))
            if rest:
                self._waiting.insert(0, rest)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            # The protocol of that turn: a WebSocket may take over the transport in this one.
            asyncio.get_running_loop().call_soon(lambda: self.protocol.connection_lost(error))


class GatedDialer(Dialer):
    """Connects at once, or after `go` if the test cleared it.

    While `error` is set, dials fail with it. `turns` has a future for each of the next dials, whose exception fails the
    dial.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        super().__init__(rules, resolver=resolver)
        self.error: Exception | None = None
        self.turns: list[asyncio.Future[None]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def pass_gate(self) -> None:
        """Wait for the test's permission. Raises its error."""
        if self.turns:
            await self.turns.pop(0)
        await self.go.wait()
        if self.error is not None:
            raise self.error


class ScriptedDialer(GatedDialer):
    """Connects to recording transports, without resolving names."""

    def __init__(self) -> None:
        super().__init__(NetworkRules())
        self.transports: list[RecordingTransport] = []

    async def connect(self, factory: Callable[[], P], origin: Origin, egress: Egress, **_: Any) -> P:
        await self.pass_gate()
        protocol = factory()
        self.transports.append(RecordingTransport(protocol))
        return protocol


class ScriptedPlane:
    """A plane with `upstreams`, in the order of their connections."""

    def __init__(
        self,
        *integrations: Integration,
        timeouts: Timeouts = TIMEOUTS,
        limits: Limits = LIMITS,
        via: bool = True,
        sources: Mapping[str, GrantSource] | None = None,
        identities: Mapping[str, IdentitySource] | None = None,
        passing: bool = False,
        matching: bool = False,
        presets: Iterable[Preset] = (),
        tokens: Mapping[str, frozenset[str] | None] = NO_TOKENS,
        access: AccessLog | None = None,
        dialer: ScriptedDialer | None = None,
        leaves: LeafSource | None = None,
    ) -> None:
        self.dialer = dialer or ScriptedDialer()
        self.defects: list[BaseException] = []
        served = {integration.id: integration for integration in integrations}
        self.snapshot = snapshot = Snapshot(
            integrations=served,
            callers=callers_of(tokens),
            presets={preset.id: preset for preset in presets},
            listen=Listen(names=("h.test",)),
            timeouts=timeouts,
            limits=limits,
            via=via,
            passthrough=build_passthrough(served, MOZILLA, (443, 80)) if passing else None,
            matching=build_matching(served) if matching else None,
        )

        def report(defect: BaseException, request_id: str = "") -> str:
            self.defects.append(defect)
            return request_id or "defect-1"

        grant_sources = sources or {}
        metrics = Metrics()
        metrics.prepare(snapshot)()
        self.plane = DataPlane(
            snapshot,
            source_of=lambda item: grant_sources.get(item.id) or source_of(item),
            identity_of=lambda item: (identities or {}).get(item.id),
            dialer=self.dialer,
            metrics=metrics,
            access=access or AccessLog(DISCARD, "off", path=False),
            audit=AuditLog(DISCARD, "off"),
            leaves=leaves or NoLeaves(),
            report=report,
        )

    @property
    def metrics(self) -> Metrics:
        """The counters of the plane."""
        return self.plane.worker.metrics

    @property
    def upstreams(self) -> list[RecordingTransport]:
        return self.dialer.transports

    def caller(self) -> RecordingTransport:
        """Open a connection of a caller."""
        return RecordingTransport(self.plane.connection())

    async def upstream(self, number: int = 0) -> RecordingTransport:
        """Return the upstream connection of this number, once it is open."""
        await settle()
        return self.upstreams[number]

    def pooled(self) -> list[UpstreamConnection]:
        """Return the idle upstream connections."""
        return [connection for pool in self.plane.pools.known() for connection in pool.idle]


async def send_request(sidekey: ScriptedPlane, raw: bytes) -> tuple[RecordingTransport, RecordingTransport]:
    """Send bytes as a new caller. Return the caller, and the first upstream connection."""
    caller = sidekey.caller()
    caller.feed(raw)
    return caller, await sidekey.upstream()


def single_response(caller: RecordingTransport, *, to_head: bool = False) -> wire.Message:
    """Return the only response since the last call."""
    data = caller.read()
    message = wire.first_response(data, to_head=to_head, ended=caller.ended)
    assert message is not None
    assert message.length == len(data)
    return message


async def settle() -> None:
    """Run everything that needs only turns of the loop."""
    for _ in range(8):
        await asyncio.sleep(0)


class GatedGrantSource(FixedSource):
    """A grant source whose `obtain` waits for `go`, then returns `ready` or raises `error`.

    A returned grant stays current until the test removes it. `refreshed` is the grant after a rejection with 401, for
    which `obtain` waits for `go`, too.
    """

    def __init__(self, ready: Grant = GRANT, *, available: bool = False) -> None:
        super().__init__(ready)
        self.ready = ready
        self.grant = ready if available else None
        self.refreshed: Grant | None = None
        self.error: Exception | None = None
        self.calls = 0
        self.go = asyncio.Event()

    async def obtain(self) -> Grant:
        self.calls += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.grant = self.ready
        return self.ready

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        return status == 401

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        self.calls += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        if self.refreshed is not None:
            self.grant = self.refreshed
        return self.refreshed


class GatedIdentitySource:
    """A client certificate, available from the start, or once `go` is set after `obtain`."""

    def __init__(self, name: str = "", *, later: str = "") -> None:
        self.identity = certificate(name) if name else None
        self.later = later
        self.calls = 0
        self.go = asyncio.Event()

    async def obtain(self) -> ClientIdentity:
        self.calls += 1
        await self.go.wait()
        self.identity = certificate(self.later)
        return self.identity


def certificate(name: str) -> ClientIdentity:
    """Build a client certificate that nobody checks."""
    return ClientIdentity(b"", b"", name, 0.0, float("inf"), name, "a CA")
