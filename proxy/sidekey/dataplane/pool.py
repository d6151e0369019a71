"""Connections to one origin under one TLS identity and one set of dialling rules.

Nothing crosses pools: the key holds everything that decides what a connection may be used for.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sidekey.core.addresses import Network
from sidekey.core.urls import Origin
from sidekey.credentials.identity import ClientIdentity, expired
from sidekey.dataplane.granting import proceed
from sidekey.dataplane.upstream import UpstreamConnection
from sidekey.errors import Problem, ProblemError
from sidekey.network.sessions import Sessions
from sidekey.settings.snapshot import Trust

if TYPE_CHECKING:
    from sidekey.dataplane.exchange import Exchange
    from sidekey.dataplane.plane import Plane
    from sidekey.settings.snapshot import Integration

PROBE_AFTER = 1.0
"""Seconds of idleness after which a connection is probed before its reuse."""


class Key(NamedTuple):
    """What two exchanges must have in common to share a connection."""

    origin: Origin
    trust: Trust
    allow_private: tuple[Network, ...]
    fingerprint: str = ""
    """Of the client certificate; empty where there is none."""


def key_of(origin: Origin, integration: Integration, identity: ClientIdentity | None) -> Key:
    """The key for an origin under an integration's trust and dialling rules, and under one client certificate."""
    fingerprint = "" if identity is None else identity.fingerprint
    return Key(origin, integration.trust, integration.allow_private, fingerprint)


def may_use(integration: Integration | None, key: Key) -> bool:
    """Whether an integration may come to use connections of this key, as far as its origin tells."""
    if integration is None:
        return False
    ring, policy, origin = integration.certificate, integration.policy, key.origin
    if key != key_of(origin, integration, None if ring is None else ring.identity):
        return False
    return any(prefix.origin == origin for prefix in policy.prefixes) or any(
        domain.covers(origin) for domain in policy.domains
    )


class Pool:
    """Idle connections (the last used first) and the exchanges that wait for one.

    `open` are all its connections, also those that carry an exchange. Once it is `dropped` it keeps none: what it has,
    or makes for an exchange that was in flight then, closes after that exchange.
    """

    __slots__ = ("connecting", "dropped", "identity", "idle", "key", "open", "plane", "sessions", "waiting")

    def __init__(self, plane: Plane, key: Key, identity: ClientIdentity | None) -> None:
        self.plane = plane
        self.key = key
        self.identity = identity
        # Resuming skips the verification of the peer: what is in the key decides who may.
        self.sessions = Sessions()
        self.idle: dict[UpstreamConnection, None] = {}
        self.waiting: deque[Exchange] = deque()
        self.connecting = 0
        self.open: set[UpstreamConnection] = set()
        self.dropped = False

    def opened(self, connection: UpstreamConnection) -> None:
        """Take a connection in. A pool that holds one is known to the plane, even where its key was pruned."""
        self.open.add(connection)
        self.plane.connected.add(self)
        if self.dropped:
            connection.use_up()

    def closed(self, connection: UpstreamConnection) -> None:
        """Let go of a connection that has closed."""
        self.idle.pop(connection, None)
        self.open.discard(connection)
        if not self.open:
            self.plane.connected.discard(self)

    @property
    def is_empty(self) -> bool:
        """Whether it holds no connection and nobody waits for one."""
        return not (self.open or self.waiting or self.connecting)

    @property
    def is_bare(self) -> bool:
        """Whether it holds no client certificate either."""
        return self.identity is None and self.is_empty

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is still good, or None."""
        idle = self.idle
        while idle:
            connection, _ = idle.popitem()
            if not connection.transport.is_closing() and (
                self.plane.deadlines.now - connection.idle_since < PROBE_AFTER or quiet(connection)
            ):
                return connection
            connection.transport.abort()
        return None

    def enqueue(self, exchange: Exchange) -> None:
        """Wait for a connection: a fresh one is begun, and one that becomes free meanwhile serves as well."""
        self.waiting.append(exchange)
        self.connecting += 1
        self.plane.spawn(self._connect_for_waiting())

    def offer(self, connection: UpstreamConnection) -> None:
        """Take a connection that has become free: to the first that waits, else to the idle ones."""
        waiting = self.waiting
        outdated: list[Exchange] = []
        while waiting:
            exchange = waiting.popleft()
            if exchange.awaits_connection:
                if exchange.grant is exchange.lane.source.grant:
                    exchange.send(connection)
                    break
                # The grant has expired, or was renewed, while the exchange waited.
                exchange.awaits_connection = False
                outdated.append(exchange)
        else:
            self._rest(connection)
        for exchange in outdated:
            proceed(exchange, judged=False)

    def _rest(self, connection: UpstreamConnection) -> None:
        now = self.plane.deadlines.now
        connection.idle_since = now
        connection.deadline = now + connection.keep_for
        self.idle[connection] = None

    def offer_new(self, connection: UpstreamConnection) -> None:
        """Take a connection that was made just now: where nobody waits any more, a dropped pool has no use for it."""
        self.offer(connection)
        if self.dropped and connection in self.idle:
            connection.expired()

    def forget(self, connection: UpstreamConnection) -> None:
        """Drop a connection that closed while it was idle."""
        self.idle.pop(connection, None)

    def close_idle(self) -> None:
        """Close what nobody uses now."""
        for connection in list(self.idle):
            connection.expired()

    def drop(self) -> None:
        """Keep no connection any more: no exchange to come may use one."""
        self.dropped = True
        self.close_idle()
        for connection in self.open:
            connection.use_up()

    async def connect(self) -> UpstreamConnection:
        """Make a connection. Raises ProblemError."""
        plane = self.plane
        identity = self.identity
        if identity is not None and time.time() >= identity.not_after:
            raise ProblemError(expired(identity))
        outcome = "proxy_internal_error"
        plane.metrics.upstream_connecting += 1
        try:
            connection = await plane.dialer.connect(
                lambda: UpstreamConnection(self),
                self.key.origin,
                trust=self.key.trust,
                allow_private=self.key.allow_private,
                identity=identity,
                sessions=self.sessions,
                timeout=plane.timeouts.connect,
            )
            outcome = "ok"
        except ProblemError as raised:
            outcome = raised.problem.error
            raise
        finally:
            plane.metrics.upstream_connecting -= 1
            plane.metrics.connects[outcome] = plane.metrics.connects.get(outcome, 0) + 1
        return connection

    async def _connect_for_waiting(self) -> None:
        try:
            connection = await self.connect()
        except ProblemError as raised:
            self.connecting -= 1
            self._failed(raised.problem)
        except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
            self.connecting -= 1
            self._failed(self.plane.defect(error))
        else:
            self.connecting -= 1
            self.offer_new(connection)

    def _failed(self, problem: Problem) -> None:
        while self.waiting and not self.waiting[0].awaits_connection:
            self.waiting.popleft()
        if len(self.waiting) > self.connecting:
            self.waiting.popleft().fail(problem)


def quiet(connection: UpstreamConnection) -> bool:
    """Whether nothing has arrived on an idle connection: an end of stream or stray bytes make it unfit for reuse."""
    descriptor = connection.descriptor
    if descriptor < 0:
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)
