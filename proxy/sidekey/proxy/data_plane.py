"""The data plane of one process: it connects the parts, replaces the snapshot, and shuts down."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from sidekey.ca.leaf_source import LeafSource
from sidekey.credentials.base import GrantSource
from sidekey.credentials.certificates.identity import IdentitySource
from sidekey.network.dial import Dialer
from sidekey.network.tls_server import ListenerTls
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.policy.callers import JwtVerifier
from sidekey.proxy.downstream.connection import CallerConnection
from sidekey.proxy.downstream.request_parser import CallerRequest
from sidekey.proxy.downstream.tls import CallerTls, Handshake
from sidekey.proxy.events import CallerEvents
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.proxy.exchange.websocket import WebSocket
from sidekey.proxy.limits import InFlightCounters
from sidekey.proxy.operators import Operator
from sidekey.proxy.routing.router import Router
from sidekey.proxy.tunnel.connect import ConnectHandler
from sidekey.proxy.tunnel.registry import Tunnels
from sidekey.proxy.upstream.pools import Pools
from sidekey.proxy.worker import Worker
from sidekey.publish import commit_all
from sidekey.snapshot.snapshot import Integration, Snapshot


class DataPlane:
    """Serves callers' connections with a snapshot.

    At the first request of an integration, `source_of` creates its grant source, and `identity_of` finds the source of
    its client certificate, if it has one. `leaves` are the certificates for tunnels. `report`, `wall` and `jwts` are
    those of the `Worker`.
    """

    __slots__ = ("_leaves", "_tunnels", "pools", "router", "worker")

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        source_of: Callable[[Integration], GrantSource],
        identity_of: Callable[[Integration], IdentitySource | None],
        dialer: Dialer,
        metrics: Metrics,
        access: AccessLog,
        audit: AuditLog,
        leaves: LeafSource,
        report: Callable[[BaseException, str], str],
        wall: Callable[[], float] = time.time,
        jwts: JwtVerifier | None = None,
    ) -> None:
        self.worker = Worker(snapshot, metrics=metrics, access=access, audit=audit, report=report, wall=wall, jwts=jwts)
        dialer.instance = self.worker.instance.decode()
        metrics.proxy_connects = dialer.proxy_connects
        self.pools = Pools(self.worker, dialer)
        self._leaves = leaves
        self._tunnels = Tunnels(self.worker)
        in_flight_counters = InFlightCounters(self.worker)
        metrics.count_idle = self.pools.idle_count
        metrics.utilization = in_flight_counters.utilization
        self.router = Router(
            snapshot,
            self.worker.instance,
            self.pools,
            in_flight_counters,
            metrics,
            source_of=source_of,
            identity_of=identity_of,
        )

    def connection(self, operator: Operator | None = None) -> CallerConnection:
        """Return the protocol of a new connection: a caller's, or an operator's if this process sends."""
        return CallerConnection(self.worker, self._start, operator)

    def accept_over_tls(self, tls: ListenerTls) -> Callable[[], Handshake]:
        """Return the protocol factory of a listener with TLS."""
        return partial(Handshake, CallerTls(self.worker, tls), self._start)

    def _start(self, connection: CallerConnection, request: CallerRequest) -> CallerEvents:
        if request.head.method == b"CONNECT":
            return ConnectHandler(
                self.worker,
                self.router,
                self.pools,
                self._tunnels,
                self._leaves,
                caller=connection,
                request=request,
            )
        return Exchange(self.worker, self.router, connection, request)

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare another snapshot. The returned function applies it to requests that begin after it.

        Earlier requests keep their rules, integration and connections. `Worker.limit_in_flight` sets the limit of
        requests in flight. WebSockets that it no longer allows are cut.
        """
        commits = (self.worker.prepare(snapshot), self.router.prepare(snapshot), partial(self._cut_revoked, snapshot))
        return partial(commit_all, commits)

    def _cut_revoked(self, snapshot: Snapshot) -> None:
        """Cut the WebSockets that the snapshot no longer allows."""
        if not self.worker.metrics.tunnels["websocket"]:
            return
        for connection in self.worker.connections:
            if isinstance(connection, WebSocket):
                connection.apply_rules(self.router.find(connection.integration.encode()), snapshot.callers)

    def drain(self) -> None:
        """Close each connection with its next response."""
        self.worker.drain()

    async def finish(self, grace: float) -> bool:
        """Wait up to `grace` seconds for exchanges in flight, then close. Return True if none was cut."""
        clean = await self.worker.finish(grace)
        await self.close()
        return clean

    async def close(self) -> None:
        """Close every connection and cancel every task."""
        await self.worker.close()
        await self.router.close()
        self.pools.abort_idle()
