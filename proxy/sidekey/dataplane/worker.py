"""What every part of the data plane shares: the rules of now, one timer, counters, tasks, and the way to a drain."""

from __future__ import annotations

import asyncio
import heapq
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from sidekey.dataplane.deadlines import NEVER, TICK, Deadlines
from sidekey.errors import Problem, ProblemError
from sidekey.observe.access import AccessLog
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.runtime.rules import Rules
from sidekey.runtime.snapshot import Snapshot

T = TypeVar("T")

SIGNING_THREADS: Final = min(28, os.cpu_count() or 1)
"""Requests that are signed in threads at a time. The loop has four threads more, up to 32 (`ThreadPoolExecutor`): names
are resolved there, secrets read and tokens fetched, whatever is being signed."""

_NICENESS: Final = 19
"""The niceness of a thread that signs a long body, so that the loop goes first: of 80 bodies of 8 MiB on one core, it
waited over 2 ms in 38 to 51 cases at equal weight, in 1 to 4 at 19. RSA threads would starve, and keep equal weight."""

_DIGITS: Final[tuple[bytes, ...]] = tuple(b"%x" % digit for digit in range(16))


class Closable(Protocol):
    """A caller's connection, as far as its end concerns the worker."""

    @property
    def idle_since(self) -> float:
        """Since when nothing is under way, by the loop's time; NEVER where something is."""
        ...

    @property
    def unsent(self) -> bool:
        """Whether part of a response has not left yet."""
        ...

    def close_if_idle(self) -> bool:
        """Close the connection where nothing is under way and nothing has arrived; whether it did."""
        ...

    def wind_down(self, *, patient: bool) -> None:
        """Have the connection end as soon as nothing is under way.

        At a `patient` look what is idle goes on: its next request may be about to come, and the response to that tells
        the caller that the connection ends.
        """
        ...

    def end(self) -> None:
        """Close it now, with a reset where something is cut."""
        ...


class Worker:
    """One process's share of the work, without any knowledge of integrations.

    `rules` are those of requests that begin now. `in_flight_limit` is how many may be in flight, `origin_limit` how
    many of one origin, `is_divided` whether that is less. `held_bytes` are reserved for bodies that are held to be
    signed, `_held_by` has those of each integration by ID. `descriptors` is how many there are for connections
    on either side. `instance` is the random word in this process's Via. `report` logs a defect, under the id of the
    request that it is of where there is one, and returns the id under which it did; it must not raise. `wall` gives
    the time that is signed, in seconds since the epoch. `signing` is passed by whoever signs in a thread, first
    come, first served.
    """

    __slots__ = (
        "_connections",
        "_exhausted_at",
        "_held_by",
        "_id_beginning",
        "_id_count",
        "_id_digit",
        "_long_signers",
        "_passages",
        "_report",
        "_tasks",
        "access",
        "audit",
        "clock",
        "deadlines",
        "descriptors",
        "draining",
        "finishing",
        "held_bytes",
        "in_flight_limit",
        "instance",
        "is_divided",
        "metrics",
        "origin_limit",
        "rules",
        "signing",
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
    ) -> None:
        self.instance = secrets.token_hex(4).encode()
        # The next id but for its last digit, how many of 16 that is, and the last digit that was given out.
        self._id_beginning = self.instance + b"-"
        self._id_count = self._id_digit = 0
        self.rules = self._rules(snapshot)
        self.metrics = metrics
        self.access = access
        self.audit = audit
        self.deadlines = Deadlines()
        self.clock = time.monotonic
        self.wall = wall
        self.signing = asyncio.Semaphore(SIGNING_THREADS)
        self._long_signers = ThreadPoolExecutor(SIGNING_THREADS, "signing", _give_way)
        self.draining = self.finishing = False
        self.in_flight_limit = self.origin_limit = snapshot.limits.in_flight
        self.is_divided = snapshot.several_origins
        self.limit_in_flight(self.in_flight_limit)
        self.held_bytes = 0
        self._held_by: dict[str, int] = {}
        self.descriptors = sys.maxsize
        self._report = report
        # The oldest first, which is how those are told apart that are idle since the same tick.
        self._connections: dict[Closable, None] = {}
        # The tick at which a look for idle callers has found all that there were.
        self._exhausted_at = NEVER
        # Tunnels whose bytes pass, from before their target is connected.
        self._passages: set[Closable] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def _rules(self, snapshot: Snapshot) -> Rules:
        via = b"\r\nVia: 1.1 sidekey (%b)" % self.instance if snapshot.via else b""
        return Rules(snapshot.limits, snapshot.timeouts, snapshot.callers, via, awaits_store=snapshot.awaits_store)

    def prepare(self, snapshot: Snapshot) -> Callable[[], None]:
        """Make the rules of a snapshot; the result puts them in force for the requests that begin from then on."""
        rules, divided = self._rules(snapshot), snapshot.several_origins

        def commit() -> None:
            self.rules = rules
            self.is_divided = divided
            self.limit_in_flight(self.in_flight_limit)

        return commit

    def limit_in_flight(self, most: int) -> None:
        """Admit at most so many requests at a time: of one origin half of them (rounded up) where there are several."""
        self.in_flight_limit = self.metrics.in_flight_limit = most
        self.origin_limit = (most + 1) // 2 if self.is_divided else most

    # Requests in flight.

    @property
    def is_full(self) -> bool:
        """Whether more requests are in flight than may be."""
        return self.metrics.in_flight > self.in_flight_limit

    def enter(self) -> float:
        """Count a request in; the moment of its start, on the monotonic clock."""
        self.metrics.in_flight += 1
        return self.clock()

    def leave(self, began: float) -> float:
        """Count a request out; its duration in seconds."""
        self.metrics.in_flight -= 1
        return self.clock() - began

    def reserve_body(self, integration: str, size: int) -> bool:
        """Count bytes that are held of an integration's bodies; return False if they do not fit.

        They count by the integration's ID, not by its object, which a reload replaces while bodies are held.
        """
        limit, held = self.rules.limits.held_bodies, self._held_by.get(integration, 0) + size
        if self.held_bytes + size > limit or held > limit // 2:
            return False
        self.held_bytes += size
        self._held_by[integration] = held
        return True

    def release_body(self, integration: str, size: int) -> None:
        """Count bytes out that `reserve_body` has counted in."""
        self.held_bytes -= size
        self._held_by[integration] -= size
        if not self._held_by[integration]:
            del self._held_by[integration]

    def next_id(self) -> bytes:
        """The id of one request: the process's word and a count. Its caller sees it, its upstream does not.

        All but the last digit is written once for 16 of them: each request has one.
        """
        digit = self._id_digit + 1
        if digit == 16:
            digit = 0
            self._id_count += 1
            self._id_beginning = b"%b-%x" % (self.instance, self._id_count)
        self._id_digit = digit
        return self._id_beginning + _DIGITS[digit]

    # Tasks.

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task and hold on to it; a defect in it is reported."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def in_thread(self, sign: Callable[[], T], *, long: bool) -> T:
        """What it returns, in one of the loop's threads, or in one that gives way to the loop where it takes long."""
        return await asyncio.get_running_loop().run_in_executor(self._long_signers if long else None, sign)

    def run(self, step: Callable[[], Problem | None], fail: Callable[[Problem], None], request_id: bytes) -> None:
        """Run a step of a request that is not the business of whoever calls: its problem, or defect, goes to `fail`."""
        try:
            problem = step()
        except Exception as error:  # noqa: BLE001  a defect is reported and answered
            problem = self.defect(error, request_id)
        if problem is not None:
            fail(problem)

    def soon(self, step: Callable[[], Problem | None], fail: Callable[[Problem], None], request_id: bytes) -> None:
        """The same once others have had their turn."""
        asyncio.get_running_loop().call_soon(self.run, step, fail, request_id)

    def attempt(
        self, work: Callable[[], Awaitable[Problem | None]], fail: Callable[[Problem], None], request_id: bytes
    ) -> None:
        """Run a task for a request. The problem that it returns or raises, or its defect, is answered by `fail`."""
        self.spawn(self._attempted(work, fail, request_id))

    async def _attempted(
        self, work: Callable[[], Awaitable[Problem | None]], fail: Callable[[Problem], None], request_id: bytes
    ) -> None:
        try:
            problem = await work()
        except ProblemError as raised:
            problem = raised.problem
        except Exception as error:  # noqa: BLE001  the edge of a task: a defect is reported and answered
            problem = self.defect(error, request_id)
        # Out of the handler: what is parsed inside one tells no reason of its own (`RequestReader._problem_of`).
        if problem is not None:
            fail(problem)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error, "")

    @property
    def is_waiting(self) -> bool:
        """Whether a task is under way."""
        return bool(self._tasks)

    def defect(self, error: BaseException, request_id: bytes) -> Problem:
        """Report a defect of ours in a request; the response carries its id and nothing else of it."""
        logged = self._report(error, request_id.decode())
        return Problem("internal_error", f"a defect of Sidekey, logged as {logged}", sent="maybe")

    # Callers' connections, and the end.

    def limit_descriptors(self, most: int) -> None:
        """Have at most so many connections, of callers and to upstreams together."""
        self.descriptors = most

    def opened(self, connection: Closable) -> bool:
        """Hear of a caller's connection; False where there is no room for it, so that it must close."""
        self._make_room()
        self._connections[connection] = None
        return self._lacking_for_callers() <= 0

    def enter_passage(self, passage: Closable) -> bool:
        """Reserve a descriptor for the target of a tunnel that passes bytes, or return False if there is no room.

        A passage takes two descriptors and never makes room for another connection. So passages get at most half of the
        room of callers.
        """
        room = self.descriptors - self.in_flight_limit
        if len(self._passages) >= max(1, room // 4):
            return False
        self._make_room()
        if self._lacking_for_callers() >= 0:
            return False
        self._passages.add(passage)
        return True

    def leave_passage(self, passage: Closable) -> None:
        """Release the descriptor of a passage's target."""
        self._passages.discard(passage)

    def _make_room(self) -> None:
        """Have a descriptor free, as far as some connection is idle.

        Each request that may be in flight keeps the one for its upstream, and each passage the one for its target. For
        others, those that have been idle for the longest time make room: several at a time, since looking for them
        takes longer the more there are. Where there are not so many, nobody is looked for until the next tick: each
        connection of an attacker who has all others under way would cost a look at all of them.
        """
        if self._lacking_for_callers() >= 0 and self._exhausted_at != self.deadlines.now:
            wanted = 1 + len(self._connections) // 16
            for each in heapq.nsmallest(wanted, self._connections, key=_idle_since):
                if each.close_if_idle():
                    self.closed(each)
                    wanted -= 1
            if wanted:
                self._exhausted_at = self.deadlines.now

    def _lacking_for_callers(self) -> int:
        """By how much callers' connections exceed their room; below 0, how many more there may be."""
        kept = max(self.in_flight_limit + len(self._passages), self._upstreams())
        return len(self._connections) + kept - self.descriptors

    def _upstreams(self) -> int:
        return self.metrics.upstream_open + self.metrics.upstream_connecting

    async def connecting(self, dialled: Awaitable[T], stats: IntegrationStats) -> T:
        """The connection to an upstream that is being made, which is counted; what comes of it counts in `stats`."""
        metrics, outcome = self.metrics, "proxy_internal_error"
        metrics.upstream_connecting += 1
        try:
            connection = await dialled
            outcome = "ok"
        except ProblemError as raised:
            outcome = raised.problem.error
            raise
        except asyncio.CancelledError:
            # The process ends before anything has come of it.
            outcome = ""
            raise
        finally:
            metrics.upstream_connecting -= 1
            if outcome:
                stats.count_connect(outcome)
        return connection

    @property
    def has_no_room(self) -> bool:
        """Whether another connection to an upstream takes a descriptor that is not there."""
        return self._upstreams() + len(self._connections) >= self.descriptors

    def handed_over(self, former: Closable, successor: Closable) -> None:
        """Hear that another one has a caller's connection now."""
        self.closed(former)
        self._connections[successor] = None

    def closed(self, connection: Closable) -> None:
        """Hear that it is closed."""
        self._connections.pop(connection, None)

    @property
    def connections(self) -> frozenset[Closable]:
        """The callers' connections that are open."""
        return frozenset(self._connections)

    def drain(self) -> None:
        """From now on every response closes its connection."""
        self.draining = True

    async def finish(self, grace: float) -> bool:
        """Wait `grace` seconds for exchanges in flight and for requests that have arrived; True if all of them ended.

        What stays idle for a tick is told that its connection ends, and closed when the caller has ended its side as
        well, or a while after: a socket that is closed with bytes unread is reset (RFC 9112 9.6).
        """
        self.finishing = True
        patient = True
        try:
            async with asyncio.timeout(grace):
                # No event tells that a caller has read the end of its response.
                while self._wind_down(patient=patient):
                    await asyncio.sleep(TICK)
                    patient = False
        except TimeoutError:
            return not self.metrics.in_flight and not any(each.unsent for each in self._connections)
        return True

    def _wind_down(self, *, patient: bool) -> bool:
        """Have every connection end; whether something is left to wait for."""
        for connection in self.connections:
            connection.wind_down(patient=patient)
        return bool(self._connections or self.metrics.in_flight)

    def cut(self) -> None:
        """End every connection at once, what is cut of a response by a reset."""
        for connection in self.connections:
            connection.end()

    async def close(self) -> None:
        """End every connection, and every task, at once."""
        self.deadlines.stop()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._long_signers.shutdown(wait=False)


def _give_way() -> None:
    """Let the loop go first where this thread and the loop want the same processor."""
    if sys.platform == "linux":
        # Elsewhere it is the process that has a niceness (POSIX). A sandbox may refuse it.
        with suppress(OSError):
            os.nice(_NICENESS)


def _idle_since(connection: Closable) -> float:
    # In milliseconds: it is told by a deadline, whose rounding must not part those that are idle since the same tick.
    return round(connection.idle_since, 3)
