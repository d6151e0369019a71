"""A data plane without sockets: conversations scripted as bytes fed to protocols, with transports that record.

The protocols, the pool and the plane are the real ones; what stands in is the event loop's transport, and the dialer
that would have made one.
"""

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
from sidekey.snapshot.request_rules import Limits, Timeouts
from sidekey.snapshot.snapshot import Integration, Listen, NetworkRules, Preset, Snapshot
from support.leaves import NoLeaves
from support.plane import GRANT, LIMITS, MOZILLA, NO_TOKENS, TIMEOUTS, FixedSource, callers_of, source_of
from support.protocols import receive

P = TypeVar("P", bound=asyncio.Protocol)

NOWHERE = LineWriter(os.open(os.devnull, os.O_WRONLY))


class RecordingTransport(asyncio.Transport):
    """Records what is written. `choke` makes the next write find it full, `relieve` empties it."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        """An orderly end (FIN) follows what was written."""
        self.aborted = False
        self.reading = True
        self.protocol = protocol
        self.sock: socket.socket | FileIO | None = None
        """What `get_extra_info("socket")` returns: tests fill it to be read past the loop."""
        self._choked = False
        self._full = False
        self._waiting: list[bytes] = []
        self._closing = self._lost = False
        protocol.connection_made(self)

    # What the protocol calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost or self.ended:
            return
        self.written += data
        if self._choked and not self._full:
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
        assert not self.is_closing(), "a transport that closes is not asked this"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.is_closing(), "a transport that closes is not asked this"
        self.reading = True
        asyncio.get_running_loop().call_soon(self._flush)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert protocol is not self.protocol, "nothing changes by that"
        self.protocol = cast(asyncio.Protocol, protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is full is for the test to say."""

    def get_write_buffer_size(self) -> int:
        return 1 << 16 if self._full else 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default

    # What the test calls.

    @property
    def cut(self) -> bool:
        """Whether the other end sees that something is missing."""
        return self.aborted

    def feed(self, *pieces: bytes) -> None:
        """Let bytes arrive, each piece in a read of its own, as far as the protocol reads."""
        self._waiting += pieces
        self._flush()

    def finish(self) -> None:
        """Let the other end close in an orderly way, after what it sent."""
        self._flush()
        if not self._lost:
            self.protocol.eof_received()
            self._lose(None)

    def lose(self, error: Exception) -> None:
        """Let the connection fail."""
        self._lose(error)

    def choke(self) -> None:
        self._choked = True

    def sip(self) -> None:
        """Be empty now, and full again with the next write."""
        self._full = False
        self.protocol.resume_writing()

    def relieve(self) -> None:
        self._choked = False
        if self._full:
            self._full = False
            self.protocol.resume_writing()

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self.written)
        self.written.clear()
        return taken

    def _flush(self) -> None:
        while self._waiting and self.reading and not self._lost:
            rest = receive(self.protocol, self._waiting.pop(0))
            if rest:
                self._waiting.insert(0, rest)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)


class GatedDialer(Dialer):
    """Connects when the test lets it: at once, or once `go` is set where that was cleared.

    `error` is what dialling comes to while it is given. `turns` are what the next dials wait for, each for its own; its
    exception is what that dial comes to.
    """

    def __init__(self, rules: NetworkRules, *, resolver: Resolver | None = None) -> None:
        super().__init__(rules, resolver=resolver)
        self.error: Exception | None = None
        self.turns: list[asyncio.Future[None]] = []
        self.go = asyncio.Event()
        self.go.set()

    async def pass_gate(self) -> None:
        """Wait for the test's word. Raises what it says."""
        if self.turns:
            await self.turns.pop(0)
        await self.go.wait()
        if self.error is not None:
            raise self.error


class ScriptedDialer(GatedDialer):
    """Connects to transports that record, without asking where an origin is."""

    def __init__(self) -> None:
        super().__init__(NetworkRules())
        self.made: list[RecordingTransport] = []

    async def connect(self, factory: Callable[[], P], origin: Origin, **_: Any) -> P:
        await self.pass_gate()
        protocol = factory()
        self.made.append(RecordingTransport(protocol))
        return protocol


class Scripted:
    """A plane whose upstreams are `upstreams`, in the order they were connected."""

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
        served = {each.id: each for each in integrations}
        self.snapshot = snapshot = Snapshot(
            integrations=served,
            callers=callers_of(tokens),
            presets={each.id: each for each in presets},
            listen=Listen(names=("h.test",)),
            timeouts=timeouts,
            limits=limits,
            via=via,
            passing=build_passthrough(served, MOZILLA, (443, 80)) if passing else None,
            matching=build_matching(served) if matching else None,
        )

        def report(defect: BaseException, request_id: str = "") -> str:
            self.defects.append(defect)
            return request_id or "defect-1"

        given = sources or {}
        metrics = Metrics()
        metrics.prepare(snapshot)()
        self.plane = DataPlane(
            snapshot,
            source_of=lambda each: given.get(each.id) or source_of(each),
            identity_of=lambda each: (identities or {}).get(each.id),
            dialer=self.dialer,
            metrics=metrics,
            access=access or AccessLog(NOWHERE, "off", path=False),
            audit=AuditLog(NOWHERE, "off"),
            leaves=leaves or NoLeaves(),
            report=report,
        )

    @property
    def metrics(self) -> Metrics:
        """The counters that the plane writes."""
        return self.plane.worker.metrics

    @property
    def upstreams(self) -> list[RecordingTransport]:
        return self.dialer.made

    def caller(self) -> RecordingTransport:
        """A new connection of a caller."""
        return RecordingTransport(self.plane.connection())

    async def upstream(self, number: int = 0) -> RecordingTransport:
        """The upstream connection of that number, once it is made."""
        await settle()
        return self.upstreams[number]

    def pooled(self) -> list[UpstreamConnection]:
        """Connections that wait for their next exchange."""
        return [connection for pool in self.plane.pools.known() for connection in pool.idle]


async def settle() -> None:
    """Let everything happen that needs no more than turns of the loop."""
    for _ in range(8):
        await asyncio.sleep(0)


class Awaited(FixedSource):
    """A grant source that has to be asked: `obtain` waits for `go`, then gives `ready` or raises `error`.

    What it gives stays there, until the test takes it away. `refreshed` is what comes after a grant that was rejected
    with 401; it waits for `go` as well.
    """

    def __init__(self, ready: Grant = GRANT, *, there: bool = False) -> None:
        super().__init__(ready)
        self.ready = ready
        self.grant = ready if there else None
        self.refreshed: Grant | None = None
        self.error: Exception | None = None
        self.asked = 0
        self.go = asyncio.Event()

    async def obtain(self) -> Grant:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.grant = self.ready
        return self.ready

    def report_rejection(self, grant: Grant, status: int, body: bytes | None) -> bool:
        return status == 401

    async def refreshed_after(self, grant: Grant) -> Grant | None:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        if self.refreshed is not None:
            self.grant = self.refreshed
        return self.refreshed


class Certificate:
    """Where a client certificate is: there from the start, or once `go` is set, where `obtain` is asked for it."""

    def __init__(self, name: str = "", *, later: str = "") -> None:
        self.identity = certificate(name) if name else None
        self.later = later
        self.asked = 0
        self.go = asyncio.Event()

    async def obtain(self) -> ClientIdentity:
        self.asked += 1
        await self.go.wait()
        self.identity = certificate(self.later)
        return self.identity


def certificate(name: str) -> ClientIdentity:
    """A client certificate that nobody looks into."""
    return ClientIdentity(b"", b"", name, 0.0, float("inf"), name, "a CA")
