"""The state that all parts of the data plane share: current rules, the timer, counters, tasks and connections."""

from __future__ import annotations

import asyncio
import heapq
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from sidekey.errors import Problem, ProblemError
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.policy.callers import Callers, JwtVerifier
from sidekey.proxy.deadlines import NEVER, TICK, Deadlines
from sidekey.snapshot.request_rules import RequestRules
from sidekey.snapshot.snapshot import Snapshot

T = TypeVar("T")

SIGNING_THREADS: Final = min(28, os.cpu_count() or 1)
"""Requests that threads sign at a time. The loop's executor has four more threads, up to 32 in all, so that signing
never blocks name resolution, secret reads and token fetches."""

_NICENESS: Final = 19
"""The niceness of a thread that signs a long body, so that the loop goes first. While 80 bodies of 8 MiB were signed on
one core, the loop waited longer than 2 ms in 38 to 51 cases with equal weight, and in 1 to 4 with this one.

Threads that sign with RSA would starve, and keep equal weight."""


class DrainableConnection(Protocol):
    """A caller's connection that the worker can close."""

    @property
    def idle_since(self) -> float:
        """The time since which the connection has been idle, by the loop's clock; NEVER if it is not idle."""
        ...

    @property
    def unsent(self) -> bool:
        """True if part of a response is still unsent."""
        ...

    def close_if_idle(self) -> bool:
        """Close the connection and return True if it is idle and nothing has arrived."""
        ...

    def wind_down(self, *, patient: bool) -> None:
        """Close the connection if it is idle.

        While `patient`, idle connections stay open: the next request may be about to come, and its response tells the
        caller that the connection ends.
        """
        ...

    def end(self) -> None:
        """Close the connection now, with a reset if a response is cut."""
        ...


class Worker:
    """The shared state of the data plane in one process, except for the integrations, which `Router` has.

    `rules` apply to requests that begin now. `in_flight_limit` limits the requests in flight, and `origin_limit` those
    of one origin. If `has_several_origins`, `origin_limit` is half of `in_flight_limit`. `held_bytes` are reserved for
    bodies that are held to be signed, `_held_by` counts them by the ID of the integration. `signing_permits` limits
    the requests that threads sign. `descriptors` limits the connections of both sides.

    While `draining`, each connection closes with its next response. While `finishing`, the process also waits for the
    last exchanges, and no tunnel opens. `instance` is the random word in this process's Via. `report` logs a defect
    with the ID of its request, if any, returns the ID of the log entry, and must not raise. `clock` is monotonic, for
    durations. `wall` returns the time for signatures and certificates, in seconds since the epoch. `jwts` verifies
    callers' JWTs, if the config has issuers.
    """

    __slots__ = (
        "_connections",
        "_exhausted_at",
        "_held_by",
        "_id_count",
        "_id_prefix",
        "_jwts",
        "_long_signers",
        "_passthroughs",
        "_report",
        "_tasks",
        "_tunnels_by_caller",
        "_websockets_by_caller",
        "access",
        "audit",
        "clock",
        "deadlines",
        "descriptors",
        "draining",
        "finishing",
        "has_several_origins",
        "held_bytes",
        "in_flight_limit",
        "instance",
        "metrics",
        "origin_limit",
        "rules",
        "signing_permits",
        "tunnel_count",
        "wall",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        metrics: Metrics,
        access: AccessLog,
        audit: AuditLog,
        report: Callable[[BaseException, str], str],
        wall: Callable[[], float] = time.time,
        jwts: JwtVerifier | None = None,
    ) -> None:
        self._jwts = jwts
        self.instance = secrets.token_hex(4).encode()
        self._id_prefix = self.instance + b"-"
        self._id_count = 0
        self.rules = self._build_rules(snapshot)
        self.metrics = metrics
        self.access = access
        self.audit = audit
        self.deadlines = Deadlines()
        self.clock = time.monotonic
        self.wall = wall
        self.signing_permits = asyncio.Semaphore(SIGNING_THREADS)
        self._long_signers = ThreadPoolExecutor(SIGNING_THREADS, "signing", _lower_priority)
        self.draining = self.finishing = False
        self.in_flight_limit = self.origin_limit = snapshot.limits.in_flight
        self.has_several_origins = snapshot.has_several_origins
        self.limit_in_flight(self.in_flight_limit)
        self.held_bytes = 0
        self._held_by: Counter[str] = Counter()
        self.descriptors = sys.maxsize
        self._report = report
        # The oldest first: that order decides between connections that became idle in the same tick.
        self._connections: dict[DrainableConnection, None] = {}
        # The tick in which `_make_room` found no further idle connection.
        self._exhausted_at = NEVER
        # Passthrough tunnels, including those that are still connecting.
        self._passthroughs: set[DrainableConnection] = set()
        self.tunnel_count = 0
        self._tunnels_by_caller: Counter[str] = Counter()
        self._websockets_by_caller: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def _build_rules(self, snapshot: Snapshot) -> RequestRules:
        via = b"\r\nVia: 1.1 sidekey (%b)" % self.instance if snapshot.via else b""
        callers, tls = snapshot.callers, snapshot.listen.tls
        return RequestRules(
            snapshot.limits,
            snapshot.timeouts,
            None if callers is None else Callers(callers, self._jwts if snapshot.jwt_issuers else None),
            via,
            # A caller may have several keys.
            has_several_callers=len({caller.name for caller in (callers or {}).values()}) > 1,
            awaits_store=snapshot.awaits_store,
            client_cas=frozenset() if tls is None else tls.client_cas,
        )

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Prepare the rules of a snapshot. The returned function applies them to requests that begin after it."""
        rules, divided = self._build_rules(snapshot), snapshot.has_several_origins

        def commit() -> None:
            self.rules = rules
            self.has_several_origins = divided
            self.limit_in_flight(self.in_flight_limit)

        return commit

    def limit_in_flight(self, limit: int) -> None:
        """Limit the requests in flight. If there are several origins, one origin gets half of the limit, rounded up."""
        self.in_flight_limit = self.metrics.in_flight_limit = limit
        self.origin_limit = (limit + 1) // 2 if self.has_several_origins else limit

    # Requests in flight.

    @property
    def is_full(self) -> bool:
        """True if more requests are in flight than the limit allows."""
        return self.metrics.in_flight > self.in_flight_limit

    def begin_request(self) -> float:
        """Count a request as in flight. Return its start by `clock`."""
        self.metrics.in_flight += 1
        return self.clock()

    def end_request(self, began: float) -> float:
        """Count a request as ended. Return its duration in seconds."""
        self.metrics.in_flight -= 1
        return self.clock() - began

    def reserve_body(self, integration: str, size: int) -> bool:
        """Reserve bytes for a body of an integration, or return False if they do not fit.

        The integration counts by its ID: a reload replaces the object while bodies are held.
        """
        limit, held = self.rules.limits.held_bodies, self._held_by[integration] + size
        if self.held_bytes + size > limit or held > limit // 2:
            return False
        self.held_bytes += size
        self._held_by[integration] = held
        return True

    def release_body(self, integration: str, size: int) -> None:
        """Release bytes that `reserve_body` has reserved."""
        self.held_bytes -= size
        _subtract(self._held_by, integration, size)

    def next_id(self) -> bytes:
        """Return a new request ID: the process's random word and a count. Callers see it, upstreams do not."""
        self._id_count += 1
        return self._id_prefix + b"%x" % self._id_count

    # Tasks.

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task until `close`, and report a defect in it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def run_in_thread(self, sign: Callable[[], T], *, long: bool) -> asyncio.Future[T]:
        """Run `sign` in a thread, at low priority if the body is `long`, so that the loop keeps running."""
        return asyncio.get_running_loop().run_in_executor(self._long_signers if long else None, sign)

    def end_signing(self, _: asyncio.Future[Any]) -> None:
        """Release the permit of a signature that is done, so that the next request can sign in a thread."""
        self.signing_permits.release()

    def run_soon(self, step: Callable[[], None], fail: Callable[[Problem], None], request_id: bytes) -> None:
        """Run a step of a request at the next turn of the loop. If it raises, report a defect and call `fail`."""
        asyncio.get_running_loop().call_soon(self._run_step, step, fail, request_id)

    def _run_step(self, step: Callable[[], None], fail: Callable[[Problem], None], request_id: bytes) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001  a defect is reported and answered
            fail(self.report_defect(error, request_id))

    def run_in_task(
        self, work: Callable[[], Awaitable[None]], fail: Callable[[Problem], None], request_id: bytes
    ) -> asyncio.Task[None]:
        """Run the work of a request in a task. If it raises, call `fail` with its problem, or with that of a defect."""
        return self.spawn(self._run_and_report(work, fail, request_id))

    async def _run_and_report(
        self, work: Callable[[], Awaitable[None]], fail: Callable[[Problem], None], request_id: bytes
    ) -> None:
        problem: Problem | None = None
        try:
            await work()
        except ProblemError as raised:
            problem = raised.problem
        except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
            problem = self.report_defect(error, request_id)
        # Outside the `except` block: `fail` may parse the next request, and the parser reads the cause of an error from
        # its context.
        if problem is not None:
            fail(problem)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error, "")

    @property
    def is_waiting(self) -> bool:
        """True if a task of the data plane is running."""
        return bool(self._tasks)

    def report_defect(self, error: BaseException, request_id: bytes) -> Problem:
        """Report a defect in a request. Return a problem that has the ID of the log entry and no detail."""
        logged = self._report(error, request_id.decode())
        return Problem("internal_error", f"a defect of Sidekey, logged as {logged}", sent="maybe")

    # Callers' connections, and the drain.

    def limit_descriptors(self, limit: int) -> None:
        """Limit the connections, of callers and to upstreams together."""
        self.descriptors = limit

    def register(self, connection: DrainableConnection) -> bool:
        """Register a caller's connection. Return False if there is no room for it, so that it must close."""
        self._make_room()
        self._connections[connection] = None
        return self._excess() <= 0

    def enter_passthrough(self, tunnel: DrainableConnection) -> bool:
        """Reserve a descriptor for the target of a passthrough tunnel, or return False if there is no room.

        Such a tunnel needs two descriptors and never makes room for other connections. So these tunnels get at most
        half of the callers' room.
        """
        room = self.descriptors - self.in_flight_limit
        if len(self._passthroughs) >= max(1, room // 4):
            return False
        self._make_room()
        if self._excess() >= 0:
            return False
        self._passthroughs.add(tunnel)
        return True

    def enter_tunnel(self, caller: str, rules: RequestRules) -> Problem | None:
        """Count a tunnel or a WebSocket, or return the problem if it exceeds a limit.

        `caller` is empty if callers are not checked.
        """
        if self.tunnel_count >= rules.limits.tunnels:
            return _overloaded("limits.tunnels is reached")
        if self._tunnels_by_caller[caller] >= rules.tunnels_per_caller:
            return _overloaded("the caller has half of limits.tunnels, which is the most that one may have")
        self.tunnel_count += 1
        self._tunnels_by_caller[caller] += 1
        return None

    def leave_tunnel(self, caller: str) -> None:
        """Count a tunnel or a WebSocket as ended."""
        self.tunnel_count -= 1
        _subtract(self._tunnels_by_caller, caller, 1)

    def enter_websocket(self, caller: str, rules: RequestRules) -> Problem | None:
        """Count a WebSocket, also as a tunnel, or return the problem if it exceeds a limit.

        A WebSocket stays in flight for as long as its caller likes. So those of one of several callers may take at most
        half of the slots of an origin.
        """
        if rules.has_several_callers and self._websockets_by_caller[caller] >= max(1, self.origin_limit // 2):
            return _overloaded(
                "the caller's WebSockets have half of the slots of one origin (limits.in_flight), the most for one"
            )
        problem = self.enter_tunnel(caller, rules)
        if problem is None:
            self._websockets_by_caller[caller] += 1
        return problem

    def leave_websocket(self, caller: str) -> None:
        """Count a WebSocket as ended."""
        self.leave_tunnel(caller)
        _subtract(self._websockets_by_caller, caller, 1)

    def leave_passthrough(self, tunnel: DrainableConnection) -> None:
        """Release the descriptor of a passthrough tunnel's target."""
        self._passthroughs.discard(tunnel)

    def _make_room(self) -> None:
        """Close the callers' connections that have been idle for the longest time, if descriptors run short.

        It closes several at a time, because the search looks at all connections. If it finds too few, the next search
        waits for the next tick: otherwise an attacker with busy connections would cause a search with each new one.
        """
        if self._excess() >= 0 and self._exhausted_at != self.deadlines.now:
            required = 1 + len(self._connections) // 16
            for connection in heapq.nsmallest(required, self._connections, key=_idle_since):
                if connection.close_if_idle():
                    self.unregister(connection)
                    required -= 1
            if required:
                self._exhausted_at = self.deadlines.now

    def _excess(self) -> int:
        """Return the number of callers' connections above the limit. If negative, more connections fit.

        Requests in flight and passthrough tunnels reserve a descriptor each for their upstream.
        """
        reserved = max(self.in_flight_limit + len(self._passthroughs), self._upstreams())
        return len(self._connections) + reserved - self.descriptors

    def _upstreams(self) -> int:
        return self.metrics.upstream_open + self.metrics.upstream_connecting

    async def count_connecting(self, connect: Awaitable[T], stats: IntegrationStats) -> T:
        """Await a connection to an upstream. Count it while it connects, and count its outcome in `stats`."""
        metrics, outcome = self.metrics, "proxy_internal_error"
        metrics.upstream_connecting += 1
        try:
            connection = await connect
            outcome = "ok"
        except ProblemError as raised:
            outcome = raised.problem.error
            raise
        except asyncio.CancelledError:
            # The process ends: there is no outcome.
            outcome = ""
            raise
        finally:
            metrics.upstream_connecting -= 1
            if outcome:
                stats.count_connect(outcome)
        return connection

    @property
    def has_no_room(self) -> bool:
        """True if no descriptor is left for another connection to an upstream."""
        return self._upstreams() + len(self._connections) >= self.descriptors

    def replace_connection(self, previous: DrainableConnection, successor: DrainableConnection) -> None:
        """Register the connection that took over the transport of a caller's previous connection."""
        self.unregister(previous)
        self._connections[successor] = None

    def unregister(self, connection: DrainableConnection) -> None:
        """Remove a closed connection."""
        self._connections.pop(connection, None)

    @property
    def connections(self) -> frozenset[DrainableConnection]:
        """The open connections of callers."""
        return frozenset(self._connections)

    def drain(self) -> None:
        """Close each connection with its next response."""
        self.draining = True

    async def finish(self, grace: float) -> bool:
        """Wait up to `grace` seconds for exchanges in flight and requests that have arrived. Return True if all ended.

        An idle connection gets an end of stream after one tick. It closes once the caller has ended its side too, or
        after a while, because closing a socket with unread bytes resets the connection (RFC 9112 9.6).
        """
        self.finishing = True
        patient = True
        try:
            async with asyncio.timeout(grace):
                # No event reports that a caller has read the end of its response.
                while self._wind_down(patient=patient):
                    await asyncio.sleep(TICK)
                    patient = False
        except TimeoutError:
            return not self.metrics.in_flight and not any(connection.unsent for connection in self._connections)
        return True

    def _wind_down(self, *, patient: bool) -> bool:
        """Close idle connections. Return True if there is something left to wait for."""
        for connection in self.connections:
            connection.wind_down(patient=patient)
        return bool(self._connections or self.metrics.in_flight)

    def end_connections(self) -> None:
        """Close every connection at once, with a reset if a response is cut."""
        for connection in self.connections:
            connection.end()

    async def close(self) -> None:
        """Close every connection and cancel every task."""
        self.deadlines.stop()
        self.end_connections()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._long_signers.shutdown(wait=False)


def _overloaded(detail: str) -> Problem:
    return Problem("overloaded", detail, headers=(("Retry-After", "1"),))


def _subtract(counter: Counter[str], key: str, count: int) -> None:
    """Subtract from a count, and remove its key at zero."""
    counter[key] -= count
    if not counter[key]:
        del counter[key]


def _lower_priority() -> None:
    """Lower the priority of this thread, so that the loop goes first on a shared processor."""
    if sys.platform == "linux":
        # On other systems the niceness is that of the process. A sandbox may refuse the call.
        with suppress(OSError):
            os.nice(_NICENESS)


def _idle_since(connection: DrainableConnection) -> float:
    # Rounded to milliseconds: it is computed from a deadline, and one tick must give one value.
    return round(connection.idle_since, 3)
