"""All pools of the process: finds the one for a key, and lets go of those that nothing may use any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from sidekey.core.urls import Origin
from sidekey.credentials.identity import ClientIdentity
from sidekey.dataplane.upstream.pool import Key, Pool, key_of
from sidekey.dataplane.worker import Worker
from sidekey.network.dial import Dialer
from sidekey.observe.metrics import IntegrationStats
from sidekey.runtime.snapshot import Integration

POOLS_LIMIT: Final = 1024


class Pools:
    """Pools by their key. One that holds a connection is known even where its key was pruned or replaced."""

    __slots__ = ("_by_key", "_dialer", "_in_use", "_worker")

    def __init__(self, worker: Worker, dialer: Dialer) -> None:
        self._worker = worker
        self._dialer = dialer
        self._by_key: dict[Key, Pool] = {}
        self._in_use: set[Pool] = set()

    def find(self, origin: Origin, integration: Integration, identity: ClientIdentity | None) -> Pool:
        """The pool for an origin under an integration's trust and dialling rules, and under one client certificate."""
        key = key_of(origin, integration, identity)
        pool = self._by_key.get(key)
        if pool is None:
            if len(self._by_key) >= POOLS_LIMIT:
                # A wildcard domain lets callers name any number of hosts; a route keeps the pool it uses.
                self._by_key = {known: pool for known, pool in self._by_key.items() if not pool.is_empty}
            pool = self._by_key[key] = Pool(self._worker, self._dialer, key, identity, registry=self)
        return pool

    async def connect_bare(
        self,
        factory: Callable[[], asyncio.Protocol],
        origin: Origin,
        integration: Integration,
        stats: IntegrationStats,
        timeout: float,  # noqa: ASYNC109 - the dialer's budget
    ) -> None:
        """Make a connection that is in no pool, by an integration's dialling rules; it counts in `stats`.

        Raises ProblemError.
        """
        if self._worker.has_no_room:
            self.close_longest_idle()
        dialled = self._dialer.connect(
            factory,
            origin,
            trust=integration.trust,
            allow_private=integration.allow_private,
            source_address=integration.source_address,
            timeout=timeout,
        )
        await self._worker.connecting(dialled, stats)

    def known(self) -> tuple[Pool, ...]:
        """Every pool that can be found, or holds a connection."""
        return tuple({*self._by_key.values(), *self._in_use})

    def idle_count(self) -> int:
        """How many connections carry nothing now."""
        return sum(pool.idle_count for pool in self._in_use)

    def in_use(self, pool: Pool) -> None:
        """The pool holds a connection from now on."""
        self._in_use.add(pool)

    def unused(self, pool: Pool) -> None:
        """The pool holds no connection any more."""
        self._in_use.discard(pool)

    def close_longest_idle(self) -> None:
        """Close the connection that has carried nothing for the longest time."""
        idle = [found for pool in self._in_use if (found := pool.longest_idle) is not None]
        if idle:
            min(idle, key=lambda connection: connection.idle_since).expired()

    def retire(self, pool: Pool) -> None:
        """Forget a pool whose client certificate was replaced, and close what is idle in it."""
        self._forget(pool)
        pool.close_idle()

    def drop(self, pools: Iterable[Pool]) -> None:
        """Let no request to come use a connection of these."""
        for pool in pools:
            self._forget(pool)
            pool.drop()

    def abort_idle(self) -> None:
        """Cut every connection that carries nothing."""
        for pool in tuple(self._in_use):
            for connection in pool.idle:
                connection.transport.abort()

    def _forget(self, pool: Pool) -> None:
        if self._by_key.get(pool.key) is pool:
            del self._by_key[pool.key]
