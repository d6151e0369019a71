"""All pools of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from sidekey.credentials.certificates.identity import ClientIdentity
from sidekey.network.dial import Dialer
from sidekey.observe.metrics import IntegrationStats
from sidekey.policy.urls import Origin
from sidekey.proxy.upstream.pool import Pool, PoolKey, key_of
from sidekey.proxy.worker import Worker
from sidekey.snapshot.snapshot import Integration

POOLS_LIMIT: Final = 1024
"""Number of pools at which those without connections are pruned."""


class Pools:
    """Pools by key. `_in_use` also has the pools with connections whose key was pruned or whose pool was replaced."""

    __slots__ = ("_by_key", "_dialer", "_in_use", "_worker")

    def __init__(self, worker: Worker, dialer: Dialer) -> None:
        self._worker = worker
        self._dialer = dialer
        self._by_key: dict[PoolKey, Pool] = {}
        self._in_use: set[Pool] = set()

    def find(self, origin: Origin, integration: Integration, identity: ClientIdentity | None) -> Pool:
        """Return the pool for an origin with an integration's egress and client certificate."""
        key = key_of(origin, integration, identity)
        pool = self._by_key.get(key)
        if pool is None:
            if len(self._by_key) >= POOLS_LIMIT:
                # A wildcard domain lets callers name any number of hosts. Routes keep the pools that they use.
                self._by_key = {key: pool for key, pool in self._by_key.items() if not pool.is_empty}
            pool = self._by_key[key] = Pool(self._worker, self._dialer, key, identity, registry=self)
        return pool

    async def connect_unpooled(
        self,
        factory: Callable[[], asyncio.Protocol],
        origin: Origin,
        integration: Integration,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - the dialer's budget
    ) -> None:
        """Make a connection outside all pools, with an integration's egress. Raises ProblemError.

        Its outcome counts in `stats`.
        """
        if self._worker.has_no_room:
            self.close_longest_idle()
        dialled = self._dialer.connect(
            factory,
            origin,
            integration.egress,
            timeout=timeout,
        )
        await self._worker.count_connecting(dialled, stats)

    def known(self) -> tuple[Pool, ...]:
        """Return every pool that `find` can return or that has a connection."""
        return tuple({*self._by_key.values(), *self._in_use})

    def idle_count(self) -> int:
        """Count the idle connections."""
        return sum(pool.idle_count for pool in self._in_use)

    def pool_opened(self, pool: Pool) -> None:
        """Record that the pool has a connection, so that its idle connections can be found."""
        self._in_use.add(pool)

    def pool_emptied(self, pool: Pool) -> None:
        """Record that the pool has no connection any more."""
        self._in_use.discard(pool)

    def close_longest_idle(self) -> None:
        """Close the connection that has been idle for the longest time, as if it had expired."""
        idle = [connection for pool in self._in_use if (connection := pool.longest_idle) is not None]
        if idle:
            min(idle, key=lambda connection: connection.idle_since).expired()

    def retire(self, pool: Pool) -> None:
        """Forget a pool whose client certificate was replaced, and close its idle connections.

        Requests that began with the old certificate may still use the pool.
        """
        self._forget(pool)
        pool.close_idle()

    def drop(self, pools: Iterable[Pool]) -> None:
        """Forget these pools, so that no later request can use their connections."""
        for pool in pools:
            self._forget(pool)
            pool.drop()

    def abort_idle(self) -> None:
        """Abort every idle connection."""
        for pool in tuple(self._in_use):
            for connection in pool.idle:
                connection.transport.abort()

    def _forget(self, pool: Pool) -> None:
        if self._by_key.get(pool.key) is pool:
            del self._by_key[pool.key]
