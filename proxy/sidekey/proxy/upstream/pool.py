"""Connections to one origin with the same egress and client certificate, and the queue for them.

Pools never exchange connections: the key contains everything that decides which integrations may use a connection.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final, NamedTuple, Protocol

from sidekey.credentials.certificates.identity import ClientIdentity, expired_problem
from sidekey.errors import Problem, ProblemError
from sidekey.network.dial import Dialer
from sidekey.network.tls_sessions import Sessions
from sidekey.observe.metrics import IntegrationStats
from sidekey.policy.urls import Origin
from sidekey.proxy.transport import descriptor_of, has_input
from sidekey.proxy.upstream.connection import ConnectionOwner, UpstreamConnection
from sidekey.proxy.worker import Worker
from sidekey.snapshot.egress import Egress
from sidekey.snapshot.snapshot import Integration

PROBE_AFTER: Final = 1.0
"""Seconds of idleness after which the pool probes a connection before its reuse."""


class PoolKey(NamedTuple):
    """The properties that two exchanges must share to use the same connection."""

    origin: Origin
    egress: Egress
    """The integration's own rules for this origin. The global ones apply to all pools."""
    fingerprint: str = ""
    """The fingerprint of the client certificate, or empty."""


def key_of(origin: Origin, integration: Integration, identity: ClientIdentity | None) -> PoolKey:
    """Return the key for an origin with an integration's egress and client certificate."""
    fingerprint = "" if identity is None else identity.fingerprint
    return PoolKey(origin, integration.egress_for(origin.host), fingerprint)


def may_use(integration: Integration | None, key: PoolKey) -> bool:
    """Return True if the integration's policy, egress and certificate allow it to use connections of this key."""
    if integration is None:
        return False
    certificate, policy, origin = integration.certificate, integration.policy, key.origin
    if key != key_of(origin, integration, None if certificate is None else certificate.identity):
        return False
    return any(prefix.origin == origin for prefix in policy.prefixes) or any(
        domain.covers(origin) for domain in policy.domains
    )


class Waiter(Protocol):
    """An exchange that waits for a connection."""

    @property
    def request_id(self) -> bytes:
        """The ID of the request."""
        ...

    @property
    def awaits_connection(self) -> bool:
        """True while it waits for a connection."""
        ...

    def take_connection(self, connection: UpstreamConnection) -> bool:
        """Use the connection and return True, or return False to leave it to the pool."""
        ...

    def connection_declined(self) -> None:
        """Continue after `take_connection` returned False and the pool has placed the connection."""
        ...

    def connect_failed(self, problem: Problem) -> None:
        """Fail, because no connection can be made."""
        ...


class PoolRegistry(Protocol):
    """The methods of `Pools` that a pool calls."""

    def pool_opened(self, pool: Pool) -> None:
        """Record that the pool has a connection, so that its idle connections can be found."""
        ...

    def pool_emptied(self, pool: Pool) -> None:
        """Record that the pool has no connection any more."""
        ...

    def close_longest_idle(self) -> None:
        """Close the connection of any pool that has been idle for the longest time."""
        ...


class Pool(ConnectionOwner):
    """The connections of one key, and the exchanges that wait for one.

    `take_idle` returns the idle connection that was used last. If there is none, `enqueue` puts the exchange into a
    queue. The pool makes a connection for each queued exchange, but the first in the queue gets whichever connection is
    ready first. `connect_for` makes a connection for one exchange that is not queued. A `dropped` pool keeps no idle
    connection: each closes after its exchange.

    `_connecting` counts the connections that the pool is making for the queue, `_reconnecting` those of `connect_for`.
    """

    __slots__ = (
        "_connecting",
        "_dialer",
        "_idle",
        "_open",
        "_reconnecting",
        "_registry",
        "_sessions",
        "_waiting",
        "dropped",
        "identity",
        "key",
        "worker",
    )

    def __init__(
        self, worker: Worker, dialer: Dialer, key: PoolKey, identity: ClientIdentity | None, *, registry: PoolRegistry
    ) -> None:
        self.worker: Final = worker
        self.key: Final = key
        self.identity: Final = identity
        self.dropped = False
        self._dialer = dialer
        self._registry = registry
        # A resumed TLS session is not verified again, so only connections of the same key may resume it.
        self._sessions = Sessions()
        self._idle: dict[UpstreamConnection, None] = {}
        self._waiting: deque[Waiter] = deque()
        # `_connecting` is never less than the number of queued exchanges that still wait.
        self._connecting = self._reconnecting = 0
        self._open: set[UpstreamConnection] = set()

    @property
    def idle(self) -> tuple[UpstreamConnection, ...]:
        """The idle connections. The one used last comes last."""
        return tuple(self._idle)

    @property
    def longest_idle(self) -> UpstreamConnection | None:
        """The connection that has been idle for the longest time."""
        return next(iter(self._idle), None)

    @property
    def idle_count(self) -> int:
        """The number of idle connections."""
        return len(self._idle)

    @property
    def is_empty(self) -> bool:
        """True if the pool has no connection, makes none, and no exchange waits for one."""
        return not (self._open or self._waiting or self._connecting or self._reconnecting)

    @property
    def is_forgettable(self) -> bool:
        """True if nothing is lost when the pool is forgotten: it is empty and has no client certificate."""
        return self.identity is None and self.is_empty

    @property
    def has_identity(self) -> bool:
        """True if the connections present a client certificate."""
        return self.identity is not None

    # For exchanges.

    def take_idle(self) -> UpstreamConnection | None:
        """Take an idle connection that is still usable, or return None."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if not connection.transport.is_closing() and (
                self.worker.deadlines.now - connection.idle_since < PROBE_AFTER or is_reusable(connection)
            ):
                return connection
            connection.transport.abort()
        return None

    def enqueue(self, waiter: Waiter, stats: IntegrationStats, timeout: float) -> None:
        """Queue an exchange, and make a connection for it within `timeout` seconds. Its outcome counts in `stats`."""
        self._waiting.append(waiter)
        self._connecting += 1
        self.worker.spawn(self._connect_for_queue(waiter, stats, timeout))

    def connect_for(self, waiter: Waiter, stats: IntegrationStats, timeout: float) -> None:
        """Make a new connection for this exchange alone, which sends its request again."""
        self._reconnecting += 1
        self.worker.spawn(self._connect_for(waiter, stats, timeout))

    # For connections.

    def add(self, connection: UpstreamConnection) -> None:
        """Add a new connection. The registry keeps a pool that has connections, even if its key was pruned."""
        self._open.add(connection)
        self._registry.pool_opened(self)
        if self.dropped:
            connection.close_after_exchange()

    def remove(self, connection: UpstreamConnection) -> None:
        """Remove a closed connection."""
        self._idle.pop(connection, None)
        self._open.discard(connection)
        if not self._open:
            self._registry.pool_emptied(self)

    def remove_idle(self, connection: UpstreamConnection) -> None:
        """Remove a closing connection from the idle ones."""
        self._idle.pop(connection, None)

    def offer(self, connection: UpstreamConnection) -> None:
        """Give a free connection to the first queued exchange that accepts it, or keep it idle."""
        if not self._waiting:
            self._add_idle(connection)
        elif connection.transport.is_closing():
            # The pool is already making a connection for each queued exchange.
            connection.transport.abort()
        else:
            self._serve(connection)

    def _add_idle(self, connection: UpstreamConnection) -> None:
        """Add an idle connection. `take_idle` skips it if it is closing."""
        connection.become_idle()
        self._idle[connection] = None

    def _serve(self, connection: UpstreamConnection) -> None:
        """Give a connection to the first queued exchange that accepts it, or keep it idle."""
        waiting = self._waiting
        declined: list[Waiter] = []
        while waiting:
            waiter = waiting.popleft()
            if waiter.take_connection(connection):
                break
            declined.append(waiter)
        else:
            self._add_idle(connection)
        for waiter in declined:
            waiter.connection_declined()

    # For a new config.

    def close_idle(self) -> None:
        """Close the idle connections, as if they had expired."""
        for connection in self.idle:
            connection.expired()

    def drop(self) -> None:
        """Close idle connections now, and busy connections after their exchange."""
        self.dropped = True
        self.close_idle()
        for connection in self._open:
            connection.close_after_exchange()

    # Making connections.

    def _offer_new(self, connection: UpstreamConnection) -> None:
        """Give a new connection to a queued exchange. Close it if none accepts it and the pool was dropped.

        Unlike `offer`, do so even if the upstream has closed the connection at once, because the pool is making no
        other connection for that exchange.
        """
        self._serve(connection)
        if self.dropped and connection in self._idle:
            connection.expired()

    async def _connect(
        self,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - the dialer's budget
    ) -> UpstreamConnection:
        """Make a connection. Raises ProblemError."""
        worker, identity = self.worker, self.identity
        if identity is not None and time.time() >= identity.not_after:
            raise ProblemError(expired_problem(identity))
        if worker.has_no_room:
            self._registry.close_longest_idle()
        key = self.key
        dialled = self._dialer.connect(
            lambda: UpstreamConnection(worker, self),
            key.origin,
            key.egress,
            identity=identity,
            sessions=self._sessions,
            timeout=timeout,
        )
        return await worker.count_connecting(dialled, stats)

    async def _try_connect(
        self,
        waiter: Waiter,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> UpstreamConnection | Problem:
        """Make a connection, or return the problem if none can be made. A defect counts as a problem."""
        try:
            return await self._connect(stats, timeout)
        except ProblemError as raised:
            return raised.problem
        except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
            return self.worker.report_defect(error, waiter.request_id)

    async def _connect_for_queue(
        self,
        waiter: Waiter,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> None:
        try:
            result = await self._try_connect(waiter, stats, timeout)
        finally:
            self._connecting -= 1
        if isinstance(result, Problem):
            self._fail_waiting(waiter, result)
        else:
            self._offer_new(result)

    async def _connect_for(
        self,
        waiter: Waiter,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - as above
    ) -> None:
        try:
            result = await self._try_connect(waiter, stats, timeout)
        finally:
            self._reconnecting -= 1
        if isinstance(result, Problem):
            if waiter.awaits_connection:
                waiter.connect_failed(result)
        elif not waiter.take_connection(result):
            self._offer_new(result)
            waiter.connection_declined()

    def _fail_waiting(self, waiter: Waiter, problem: Problem) -> None:
        """Fail `waiter`, or the first in the queue if `waiter` already got another connection.

        Fail none if the pool still makes a connection for each queued exchange.
        """
        waiting = self._waiting
        while waiting and not waiting[0].awaits_connection:
            waiting.popleft()
        if len(waiting) > self._connecting:
            # Prefer `waiter`: another exchange may have a longer timeout, from before a reload.
            failed = waiter if waiter.awaits_connection and waiter in waiting else waiting[0]
            waiting.remove(failed)
            failed.connect_failed(problem)


def is_reusable(connection: UpstreamConnection) -> bool:
    """Return True if an idle connection is open and has no input: no end of stream and no stray bytes."""
    descriptor = descriptor_of(connection.transport)
    return descriptor >= 0 and not has_input(descriptor)
