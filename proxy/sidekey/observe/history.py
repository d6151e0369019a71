"""Usage and failures of integrations and presets, and which integrations are failing.

Processes that share a store write their counts there and read those of the whole fleet. Without a store, a process
keeps its own counts in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Final
from weakref import ref

from sidekey.observe.access import AccessLine
from sidekey.observe.log import get_logger
from sidekey.observe.metrics import IntegrationStats, Metrics
from sidekey.observe.usage import FailureStreaks, Usage
from sidekey.snapshot.snapshot import Integration, Snapshot
from sidekey.snapshot.status import FailingSince
from sidekey.store.errors import StoreDenied, StoreError
from sidekey.store.failures import PAGE, Failure
from sidekey.store.store import Store
from sidekey.store.usage import HOUR, NONE, Counters, Failing, Hour, count_good

_USAGE_INTERVAL: Final = 60.0
"""Seconds between two writes of usage, and between two reads of states."""

_FAILURES_INTERVAL: Final = 5.0
"""Seconds between two writes of failures."""

_YIELD_AFTER: Final = 200
"""Counters or states to process before other tasks of the event loop get a turn."""

_BATCH: Final = 100
"""Rows of usage in one transaction."""

_PAUSE: Final = 0.05
"""Seconds between two transactions, so that the store can do other work."""

_MAX_WAITING: Final = 2000
"""Maximum failures that wait for the next write."""

_MAX_FAILURES: Final = 200
"""Maximum failures that a process without a store keeps."""

_MAX_HOURS: Final = 10_000
"""Maximum rows of usage that a process without a store keeps (3 MB)."""

_CLOSE_TIMEOUT: Final = 5.0
"""Seconds that a shutdown waits for the last write."""

_INITIAL_HOURS: Final = 24
"""Hours of states that a process reads when it starts."""


@dataclass(slots=True)
class _Suspect:
    """An integration that was failing when the state in the store was written.

    It may have been changed, or had a success, since: `_is_still_failing` decides. `integration` is the object that was
    in use when this process read the state.
    """

    since: int
    integration: ref[Integration] | None


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """Usage of one integration or preset: by hour, unordered, and the Unix time of the last use (0: never)."""

    hours: list[Hour]
    last_at: int


class _FailingIntegrations(Mapping[str, FailingSince]):
    """Failing integrations, and when each began to fail. Values are computed on access: there may be ten thousand."""

    def __init__(
        self, candidates: Callable[[], Iterable[str]], since: Callable[[str], int], is_denied: Callable[[str], bool]
    ) -> None:
        self._candidates = candidates
        self._since = since
        self._is_denied = is_denied

    def __getitem__(self, name: str) -> FailingSince:
        since = self._since(name)
        if not since:
            raise KeyError(name)
        return FailingSince(since, self._is_denied(name))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._candidates() if self._since(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Memory:
    """Usage of a process without a store."""

    def __init__(self) -> None:
        self._hours: dict[tuple[str, str, int], Hour] = {}

    def add(self, hours: Iterable[Hour]) -> None:
        """Add usage. Evict the least recently updated row if there are too many."""
        for hour in hours:
            key = hour.kind, hour.id, hour.hour
            row = self._hours.pop(key, None)
            self._hours[key] = hour if row is None else hour._replace(counters=_sum(row.counters, hour.counters))
            if len(self._hours) > _MAX_HOURS:
                del self._hours[next(iter(self._hours))]

    def usage(self, kind: str, names: Container[str], since: int) -> tuple[list[Hour], dict[str, int]]:
        """Return usage from the hour `since` on, and the time of the last use of each name."""
        hours = [hour for hour in self._hours.values() if hour.kind == kind and hour.id in names]
        hours.sort(key=lambda hour: hour.last_at)
        return [hour for hour in hours if hour.hour >= since], {hour.id: hour.last_at for hour in hours}


class History:
    """Usage and failures of the fleet, through the store, or of this process without one."""

    def __init__(self, metrics: Metrics, snapshot: Callable[[], Snapshot]) -> None:
        self._metrics = metrics
        self._streaks = FailureStreaks(metrics)
        self._snapshot = snapshot
        self._usage = Usage(metrics)
        self._store: Store | None = None
        self._memory = _Memory()
        self._state_times: dict[str, int] = {}
        """Time of the last known state of each integration."""
        self._suspects: dict[str, _Suspect] = {}
        """Integrations that fail according to the store."""
        self._failures: dict[tuple[str, int], Failure] = {}
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        metrics.note_failure = self.note_failure
        metrics.failing = self.failing

    def start(self, store: Store | None, report: Callable[[BaseException], object]) -> None:
        """Start to read from the store and write to it, if there is one. `report` is called with each defect."""
        self._store = store
        self._task = asyncio.get_running_loop().create_task(self._run(report))

    async def close(self) -> None:
        """Write the remaining usage and failures, for at most `_CLOSE_TIMEOUT` seconds."""
        self._closing.set()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._task

    def note_failure(self, stats: IntegrationStats, line: AccessLine) -> None:
        """Record a failed request, after its outcome was counted. Keep one failure a second for each integration."""
        self._streaks.record_failure(stats, line.code, line.status, line.host)
        name, at = stats.integration, int(time.time())
        if (name, at) in self._failures or name not in self._metrics.integrations:
            return
        if len(self._failures) == (_MAX_FAILURES if self._store is None else _MAX_WAITING):
            del self._failures[next(iter(self._failures))]
        preset = self._snapshot().presets.get(line.preset)
        self._failures[name, at] = Failure(
            name,
            at,
            line.caller,
            line.preset,
            line.host if preset is None else preset.url,
            line.method,
            line.status,
            line.code,
            line.reason if line.code == "credential_unavailable" else "",
            round(line.duration * 1000),
            line.request_id,
        )

    def failing(self) -> Mapping[str, FailingSince]:
        """Return when each failing integration began to fail. Threads may read the mapping."""
        return _FailingIntegrations(
            lambda: self._suspects.keys() | self._streaks.failing().keys(), self._failing_since, self._streaks.is_denied
        )

    async def usage(self, kind: str, names: Sequence[str], hours: int) -> dict[str, UsageHistory]:
        """Return the usage of integrations or presets in the last `hours`. Raises StoreError."""
        now = int(time.time())
        since = now // HOUR - hours + 1
        if self._store is None:
            rows, last_uses = self._memory.usage(kind, names, since)
        else:
            rows, last_uses = await self._store.usage(kind, names, since)
        used = {name: UsageHistory([], last_uses.get(name, 0)) for name in names}
        for row in rows:
            used[row.id].hours.append(row)
        for name in names:
            new, _ = self._usage.unwritten(kind, name)
            if new[0]:
                used[name] = UsageHistory([*used[name].hours, Hour(kind, name, now // HOUR, now, 0, new)], now)
        return used

    async def failures(self, integration: str, before: int) -> tuple[list[Failure], bool]:
        """Return a page of failures before this time, newest first, and True if there are more. Raises StoreError."""
        stored = [] if self._store is None else await self._store.failures(integration, before)
        failures = {
            at: failure for (name, at), failure in self._failures.items() if name == integration and at < before
        }
        failures |= {failure.at: failure for failure in stored}
        page = [failures[at] for at in sorted(failures, reverse=True)]
        return page[:PAGE], len(page) > PAGE

    async def _run(self, report: Callable[[BaseException], object]) -> None:
        """Read states, and write failures and usage, until `close`."""
        # Random, so that processes that start together do not write together.
        due = time.monotonic() + random.uniform(0, _USAGE_INTERVAL)  # noqa: S311
        since = int(time.time()) // HOUR - _INITIAL_HOURS
        is_read = is_ended = False
        problem = ""
        while not is_ended:
            is_ended = self._closing.is_set()
            is_due = time.monotonic() >= due
            try:
                if self._store is not None and self._store.health.up:
                    if is_due or not is_read:
                        await self._read_states(self._store, since)
                        since, is_read = int(time.time()) // HOUR - 1, True
                    await self._write_failures(self._store)
                    problem = ""
                if (is_due or is_ended) and (self._store is None or self._store.health.up):
                    due = time.monotonic() + _USAGE_INTERVAL
                    await self._write_usage()
            except StoreDenied as error:
                get_logger().warning("usage and failures stay in this process", reason=str(error))
                return
            except StoreError as error:
                # The next attempt writes the rest.
                if problem != str(error):
                    problem = str(error)
                    get_logger().warning("usage and failures wait for the store", reason=problem)
            except Exception as defect:  # noqa: BLE001  the edge of a task
                report(defect)
            if not is_ended:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_FAILURES_INTERVAL):
                        await self._closing.wait()

    async def _read_states(self, store: Store, since: int) -> None:
        if not self._snapshot().awaits_store:
            for name in self._state_times.keys() - self._metrics.integrations.keys():
                del self._state_times[name]
                self._suspects.pop(name, None)
        for number, (name, state) in enumerate((await store.failing_integrations(since)).items(), 1):
            self._remember_state(name, state)
            if number % _YIELD_AFTER == 0:
                await asyncio.sleep(0)

    async def _write_usage(self) -> None:
        hours: list[Hour] = []
        totals: dict[tuple[str, str], Counters] = {}
        for number, (kind, name) in enumerate(self._usage.keys(), 1):
            new, total = self._usage.unwritten(kind, name)
            if new[0]:
                now = int(time.time())
                at, since = self._state_to_write(name, now) if kind == "integration" else (now, 0)
                hours.append(Hour(kind, name, now // HOUR, at, since, new))
                totals[kind, name] = total
            if len(hours) == _BATCH:
                await self._write_batch(hours, totals)
                hours, totals = [], {}
                if not self._closing.is_set():
                    await asyncio.sleep(_PAUSE)
            elif number % _YIELD_AFTER == 0:
                await asyncio.sleep(0)
        if hours:
            await self._write_batch(hours, totals)

    async def _write_batch(self, hours: list[Hour], totals: Mapping[tuple[str, str], Counters]) -> None:
        if self._store is None:
            self._memory.add(hours)
        else:
            # Sorted, so that two processes do not deadlock on each other's rows.
            await self._store.add_usage(sorted(hours))
        for hour in hours:
            self._usage.note_written(hour.kind, hour.id, totals[hour.kind, hour.id])
            if hour.kind == "integration":
                self._remember_state(hour.id, Failing(hour.last_at, hour.failing_since))

    async def _write_failures(self, store: Store) -> None:
        batch = dict(self._failures)
        if batch:
            await store.add_failures([batch[key] for key in sorted(batch)])
            for key in batch:
                self._failures.pop(key, None)

    def _remember_state(self, name: str, state: Failing) -> None:
        """Remember a state that this process has read or written, unless it knows a newer one."""
        if self._state_times.get(name, 0) > state.last_at:
            return
        self._state_times[name] = state.last_at
        if not state.since:
            self._suspects.pop(name, None)
            return
        suspect = self._suspects.get(name)
        if suspect is None or suspect.since != state.since:
            integration = self._metrics.integrations.get(name)
            self._suspects[name] = _Suspect(state.since, None if integration is None else ref(integration))

    def _state_to_write(self, name: str, now: int) -> Failing:
        """Return the state to write for an integration that was used since the last write.

        This process knows the second of a failure, but only the minute of a success. So a failing state carries the
        time of its last failure, and does not replace the state of a process that had a later success.
        """
        since = self._failing_since(name)
        if not since:
            return Failing(now, 0)
        return Failing(max(self._streaks.failure_times(name)[1], self._state_times.get(name, 0)), since)

    def _failing_since(self, name: str) -> int:
        """Return when an integration began to fail, according to this process or the store; 0: it is not failing."""
        local, failed_at = self._streaks.failure_times(name)
        suspect = self._suspects.get(name)
        shared = suspect.since if suspect is not None and self._is_still_failing(name, suspect) else 0
        # Without a suspect, the last known state is a success. Earlier failures of this process then do not matter.
        if local and (suspect is not None or failed_at >= self._state_times.get(name, 0)):
            return min(local, shared or local)
        return shared

    def _is_still_failing(self, name: str, suspect: _Suspect) -> bool:
        """Return True if the failures are those of the integration in use, and this process had no success since."""
        integration = self._metrics.integrations.get(name)
        if integration is None:
            return False
        if suspect.integration is None:
            # This process read the state before it had the integration.
            suspect.integration = ref(integration)
        if suspect.integration() is not integration or count_good(self._usage.unwritten("integration", name)[0]):
            return False
        row = None if self._store is None else self._store.state.integrations.get(name)
        return not integration.stored or row is None or suspect.since >= row.updated_at


def sum_counters(hours: Iterable[Hour]) -> Counters:
    """Add up the counters of these hours."""
    return reduce(_sum, (hour.counters for hour in hours), NONE)


def _sum(first: Counters, second: Counters) -> Counters:
    return tuple(map(add, first, second))
