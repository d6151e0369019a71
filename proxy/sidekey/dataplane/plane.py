"""What all connections share: the snapshot, pools, deadlines, counters, and the way to an orderly end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sidekey.core.routing import is_own_host
from sidekey.core.urls import Origin
from sidekey.dataplane.deadlines import TICK, Deadlines
from sidekey.dataplane.exchange import Exchange
from sidekey.dataplane.lane import Known, Lane
from sidekey.dataplane.passing import PassThrough
from sidekey.dataplane.pool import Key, Pool, key_of, may_use
from sidekey.errors import Problem, ProblemError

if TYPE_CHECKING:
    from sidekey.credentials.base import GrantSource
    from sidekey.credentials.identity import ClientIdentity, IdentitySource
    from sidekey.dataplane.listener import CallerConnection
    from sidekey.network.dial import Dialer
    from sidekey.observe.access import AccessLog
    from sidekey.observe.metrics import Metrics
    from sidekey.settings.snapshot import Integration, Snapshot

HOSTS_LIMIT = 1024
LONGEST_HOST = 260
POOLS_LIMIT = 1024
TARGETS_LIMIT = 1024
LANES_AT_ONCE = 256
LONGEST_TARGET = 256


class Plane:
    """The data plane of one process.

    `source_of` makes the grant source of an integration, `identity_of` finds where its client certificate is, if it has
    one; each once, at the first request. `report` is told of every defect;
    it must not raise.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        source_of: Callable[[Integration], GrantSource],
        identity_of: Callable[[Integration], IdentitySource | None],
        dialer: Dialer,
        metrics: Metrics,
        access: AccessLog,
        report: Callable[[BaseException], str],
    ) -> None:
        self.source_of = source_of
        self.identity_of = identity_of
        self.dialer = dialer
        self.metrics = metrics
        metrics.count_idle = self._count_idle
        self.access = access
        self.report = report
        self.clock = time.monotonic
        self.deadlines = Deadlines()
        self.lanes: dict[bytes, Lane] = {}
        self.hosts: dict[bytes | None, bool] = {}
        self.targets: dict[bytes, Known] = {}
        self.pools: dict[Key, Pool] = {}
        self.connected: set[Pool] = set()
        self.connections: set[CallerConnection] = set()
        self.draining = False
        self.in_flight_limit = snapshot.limits.in_flight
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._count = 0
        self.word = secrets.token_hex(4).encode()
        self.passing: PassThrough | None = None
        self._go_by(snapshot)
        self._let_pass()

    def _go_by(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.limits = snapshot.limits
        self.timeouts = snapshot.timeouts
        self.callers = snapshot.callers
        self.names = frozenset(snapshot.listen.names)
        self.via = b"\r\nVia: 1.1 sidekey (%b)" % self.word if snapshot.via else b""
        self.via_and_end = self.via + b"\r\n\r\n"

    def adopt(self, snapshot: Snapshot) -> None:
        """Judge and serve every request that begins from now on by this snapshot.

        Where an integration is not the very same object as before its lane is forgotten. A request in flight holds its
        lane, and with it policy, credential and connections: it ends as it began. `in_flight_limit` is not touched.
        """
        former = self.snapshot
        self._go_by(snapshot)
        self.hosts.clear()
        if former.timeouts.total and not snapshot.timeouts.total:
            # An exchange takes itself out of what is watched only while there is such a limit.
            self.deadlines.release(Exchange)
        old, new = former.integrations, snapshot.integrations
        gone = {name: lane for name, lane in self.lanes.items() if new.get(lane.name) is not old.get(lane.name)}
        for name in gone:
            del self.lanes[name]
        lanes = set(gone.values())
        if self.passing is not None:
            lanes.add(self.passing.lane)
        self._let_pass()
        lanes.difference_update(self._lanes())
        self.targets = {target: known for target, known in self.targets.items() if known.lane not in lanes}
        if snapshot.network != former.network:
            self._reconnect()
        else:
            self._drop_unused(lanes)
        self._free([*lanes])

    def _free(self, lanes: list[Lane]) -> None:
        """Let go of lanes a few at a time: ten thousand in one go would hold every request up."""
        del lanes[-LANES_AT_ONCE:]
        if lanes:
            asyncio.get_running_loop().call_soon(self._free, lanes)

    def _let_pass(self) -> None:
        rules = self.snapshot.passing
        self.passing = None if rules is None else PassThrough(self, rules, self.passing)

    def _lanes(self) -> list[Lane]:
        """Those of the snapshot."""
        return [*self.lanes.values()] if self.passing is None else [*self.lanes.values(), self.passing.lane]

    def _reconnect(self) -> None:
        """Let no request to come use a connection of now: its address may not be dialled any more."""
        for pool in {*self.pools.values(), *self.connected}:
            if not pool.is_empty:
                self._drop(pool)
        for lane in self._lanes():
            lane.reconnect()

    def _drop_unused(self, gone: set[Lane]) -> None:
        """Close what only integrations that are gone, or are others now, have used.

        A pool that holds nothing may stay: it is pruned once there are many.
        """
        integrations = self.snapshot.integrations
        unused = {
            pool
            for lane in gone
            for pool in lane.pools()
            if not (pool.is_bare or may_use(integrations.get(lane.name), pool.key))
        }
        if unused:
            for lane in self._lanes():
                unused.difference_update(lane.pools())
        for pool in unused:
            self._drop(pool)

    def lane(self, name: bytes) -> Lane | None:
        """The lane of an integration ID, compiled at its first use; None where there is no such integration."""
        lane = self.lanes.get(name)
        if lane is None:
            integration = self.snapshot.integrations.get(name.decode("latin-1"))
            if integration is not None:
                lane = self.lanes[name] = Lane(self, integration, self.metrics.stats(integration.id))
        return lane

    async def decided(self, lane: Lane) -> Lane:
        """The lane of an integration that could not be built whole, once the rest can be read. Raises ProblemError."""
        await lane.integration.secrets.obtain()
        name, rebuild = lane.name.encode(), lane.integration.rebuild
        if lane.decided is None and rebuild is not None:
            integration = await asyncio.to_thread(rebuild)
            if self.lanes.get(name) is lane:
                lane.decided = self.lanes[name] = Lane(self, integration, lane.stats)
                if self.passing is not None:
                    self.passing.decided(integration)
        latest = lane
        while latest.decided is not None:
            latest = latest.decided
        if latest is lane:
            detail = "the config was loaded anew before all of the integration was read: send the request again"
        elif latest.undecided:
            detail = "a value cannot be read"
        else:
            return latest
        raise ProblemError(Problem("credential_unavailable", detail, error="proxy_configuration_error"))

    def pool(self, origin: Origin, integration: Integration, identity: ClientIdentity | None) -> Pool:
        """The pool for an origin under an integration's trust and dialling rules, and under one client certificate."""
        key = key_of(origin, integration, identity)
        pool = self.pools.get(key)
        if pool is None:
            if len(self.pools) >= POOLS_LIMIT:
                # A wildcard domain lets callers name any number of hosts; a route keeps the pool it uses.
                self.pools = {known: pool for known, pool in self.pools.items() if not pool.is_empty}
            pool = self.pools[key] = Pool(self, key, identity)
        return pool

    def retire(self, pool: Pool) -> None:
        """Forget a pool whose client certificate was replaced, and close what is idle in it."""
        self._forget_pool(pool)
        pool.close_idle()

    def _drop(self, pool: Pool) -> None:
        self._forget_pool(pool)
        pool.drop()

    def _forget_pool(self, pool: Pool) -> None:
        if self.pools.get(pool.key) is pool:
            del self.pools[pool.key]

    def own_host(self, host: bytes | None) -> bool:
        """Whether a Host field is the proxy listener's own; an HTTP/1.0 request may leave it out."""
        known = self.hosts.get(host)
        if known is None:
            if len(self.hosts) >= HOSTS_LIMIT:
                self.hosts.clear()
            known = host is None or is_own_host(host.strip(b" \t"), self.names)
            if host is None or len(host) <= LONGEST_HOST:
                self.hosts[host] = known
        return known

    def _count_idle(self) -> int:
        return sum(len(pool.idle) for pool in self.connected)

    def remember(self, target: bytes, known: Known) -> None:
        """Keep the quick reading of a target: most services send to few. What is long or many is read again."""
        if len(target) <= LONGEST_TARGET:
            if len(self.targets) >= TARGETS_LIMIT:
                self.targets.clear()
            self.targets[target] = known

    def forget(self, lane: Lane) -> None:
        """Drop what is remembered of a lane's targets: they go elsewhere now."""
        self.targets = {target: known for target, known in self.targets.items() if known.lane is not lane}

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task and hold on to it; a defect in it is reported."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error)

    def defect(self, error: BaseException) -> Problem:
        """Report a defect of ours; the answer carries its id and nothing else of it."""
        return Problem("internal_error", f"a defect of Sidekey, logged as {self.report(error)}", sent="maybe")

    def next_id(self) -> str:
        """An id for one request's log line: the process's word and a count."""
        self._count += 1
        return f"{self.word.decode()}-{self._count:x}"

    def log(self, exchange: Exchange, lane: Lane | None, code: str, seconds: float) -> None:
        """Write the access line of an exchange that has ended."""
        route = getattr(exchange, "route", None)
        # A target that was not read may hold a password where a host belongs, or an unknown ID.
        shown = lane is not None and (route is not None or code == "target_denied")
        self.access.write(
            request_id=self.next_id(),
            integration="unknown" if lane is None else lane.name,
            door=exchange.door,
            method=exchange.method.decode("latin-1"),
            host="" if route is None else route.origin.host,
            status=exchange.status,
            code=code,
            seconds=seconds,
            bytes_in=exchange.received,
            bytes_out=exchange.sent,
            target=exchange.target.decode("latin-1") if shown else None,
        )

    def note_end(self) -> None:
        """While draining: an exchange has ended."""
        if not self.metrics.in_flight:
            self._idle.set()

    def drain(self) -> None:
        """From now on every answer closes its connection."""
        self.draining = True
        self.note_end()

    async def finish(self, grace: float) -> bool:
        """Close idle connections, wait `grace` seconds for exchanges in flight, cut the rest; True if none was cut."""
        for connection in list(self.connections):
            connection.close_if_idle()
        if self.metrics.in_flight:
            # The last may have ended before another one came.
            self._idle.clear()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
                # An exchange is over with its last write, but the caller may still be taking it.
                while any(connection.unsent for connection in self.connections):  # noqa: ASYNC110  no event tells
                    await asyncio.sleep(TICK)
        except TimeoutError:
            clean = False
        else:
            clean = True
        await self.close()
        return clean

    async def close(self) -> None:
        """End everything at once."""
        self.deadlines.stop()
        for connection in list(self.connections):
            connection.close(cut=connection.unsent or not connection.is_idle)
        for pool in list(self.connected):
            for upstream in list(pool.idle):
                upstream.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
