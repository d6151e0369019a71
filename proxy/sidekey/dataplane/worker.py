"""What every part of the data plane shares: the rules of now, one timer, counters, tasks, and the way to a drain."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from sidekey.dataplane.deadlines import TICK, Deadlines
from sidekey.errors import Problem
from sidekey.runtime.rules import Rules

if TYPE_CHECKING:
    from sidekey.observe.access import AccessLog
    from sidekey.observe.metrics import IntegrationStats, Metrics
    from sidekey.runtime.snapshot import Snapshot


class Drainable(Protocol):
    """A caller's connection, as far as a drain concerns it."""

    @property
    def unsent(self) -> bool:
        """Whether part of a response has not left yet."""
        ...

    def close_if_idle(self) -> None:
        """Close the connection where nothing is under way."""
        ...

    def end(self) -> None:
        """Close it now, with a reset where something is cut."""
        ...


class Worker:
    """One process's share of the work, without any knowledge of integrations.

    `rules` are those of requests that begin now. `in_flight_limit` is how many may be in flight, `origin_limit` how
    many of one origin, `is_divided` whether that is less. `instance` is the random word in this process's Via. `report`
    logs a defect and returns the id under which it did; it must not raise.
    """

    __slots__ = (
        "_connections",
        "_idle",
        "_report",
        "_requests",
        "_tasks",
        "access",
        "clock",
        "deadlines",
        "draining",
        "in_flight_limit",
        "instance",
        "is_divided",
        "metrics",
        "origin_limit",
        "rules",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        metrics: Metrics,
        access: AccessLog,
        report: Callable[[BaseException], str],
    ) -> None:
        self.instance = secrets.token_hex(4).encode()
        self.rules = self._rules(snapshot)
        self.metrics = metrics
        self.access = access
        self.deadlines = Deadlines()
        self.clock = time.monotonic
        self.draining = False
        self.in_flight_limit = self.origin_limit = snapshot.limits.in_flight
        self.is_divided = snapshot.several_origins
        self.limit_in_flight(self.in_flight_limit)
        self._report = report
        self._connections: set[Drainable] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._requests = 0

    def _rules(self, snapshot: Snapshot) -> Rules:
        via = b"\r\nVia: 1.1 sidekey (%b)" % self.instance if snapshot.via else b""
        return Rules(snapshot.limits, snapshot.timeouts, snapshot.callers, via)

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

    def leave(self, stats: IntegrationStats, outcome: str, began: float) -> float:
        """Count a request out; its duration in seconds."""
        metrics = self.metrics
        metrics.in_flight -= 1
        if self.draining and not metrics.in_flight:
            self._idle.set()
        seconds = self.clock() - began
        stats.record(outcome, seconds)
        return seconds

    def next_id(self) -> str:
        """An id for one request's log line: the process's word and a count."""
        self._requests += 1
        return f"{self.instance.decode()}-{self._requests:x}"

    # Tasks.

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task and hold on to it; a defect in it is reported."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(error)

    @property
    def is_waiting(self) -> bool:
        """Whether a task is under way."""
        return bool(self._tasks)

    def defect(self, error: BaseException) -> Problem:
        """Report a defect of ours; the response carries its id and nothing else of it."""
        return Problem("internal_error", f"a defect of Sidekey, logged as {self._report(error)}", sent="maybe")

    # Callers' connections, and the end.

    def opened(self, connection: Drainable) -> None:
        """Hear of a caller's connection."""
        self._connections.add(connection)

    def closed(self, connection: Drainable) -> None:
        """Hear that it is closed."""
        self._connections.discard(connection)

    @property
    def connections(self) -> frozenset[Drainable]:
        """The callers' connections that are open."""
        return frozenset(self._connections)

    def drain(self) -> None:
        """From now on every response closes its connection."""
        self.draining = True
        if not self.metrics.in_flight:
            self._idle.set()

    async def finish(self, grace: float) -> bool:
        """Close idle connections and wait `grace` seconds for exchanges in flight; True if all of them ended."""
        for connection in self.connections:
            connection.close_if_idle()
        if self.metrics.in_flight:
            # The last may have ended before another one came.
            self._idle.clear()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
                # An exchange is over with its last write, but the caller may still be reading it.
                while any(connection.unsent for connection in self._connections):  # noqa: ASYNC110  no event tells
                    await asyncio.sleep(TICK)
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End every connection, and every task, at once."""
        self.deadlines.stop()
        for connection in self.connections:
            connection.end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
