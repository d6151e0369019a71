"""What a scrape costs: its processor time, and how long it keeps the event loop from other work."""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter, process_time

from sidekey.observe.exposition import expose
from sidekey.observe.metrics import Metrics
from sidekey.runtime.snapshot import Caller, Snapshot

ROUNDS = 9


def run(integrations: int = 1000) -> dict[str, float]:
    """Scrape that many active integrations beside a task that is always ready to run.

    Returns medians over the rounds. `longest_pause_ms` is the longest that the task waited for its turn;
    `longest_pause_cpu_ms` is the processor time of the process in the longest such wait, which leaves out what other
    processes took on a busy machine. `cpu_ms` is the whole scrape's processor time, `bytes` the size of the page.
    """
    metrics = active(integrations)
    rounds = [asyncio.run(_scrape(metrics)) for _ in range(ROUNDS)]
    return {key: statistics.median(measured[key] for measured in rounds) for key in rounds[0]}


def active(integrations: int) -> Metrics:
    """Make the metrics of integrations that each had requests of several outcomes and durations, and of callers.

    Each has had two connections, one of which was refused, and a request that was denied.
    """
    metrics = Metrics()
    callers = {b"%d" % number: Caller(f"caller-{number}", None) for number in range(integrations)}
    metrics.prepare(Snapshot({}, callers))()
    for number in range(integrations):
        stats = metrics.stats(f"integration-{number}")
        for outcome, seconds in (("2xx", 0.004), ("4xx", 0.03), ("upstream_timeout", 30.0)):
            stats.record(outcome, seconds)
            metrics.count_caller(f"caller-{number}", outcome)
        for outcome in ("ok", "connection_refused"):
            stats.count_connect(outcome)
        stats.count_denial("outside_prefix")
    return metrics


class _Heartbeat:
    """A task that is always ready to run, and records how many seconds it waited: elapsed, and of processor time."""

    def __init__(self) -> None:
        self.longest = self.longest_cpu = self.total_cpu = 0.0

    async def beat(self) -> None:
        while True:
            wall, cpu = perf_counter(), process_time()
            await asyncio.sleep(0)
            waited_cpu = process_time() - cpu
            self.longest = max(self.longest, perf_counter() - wall)
            self.longest_cpu = max(self.longest_cpu, waited_cpu)
            self.total_cpu += waited_cpu


async def _scrape(metrics: Metrics) -> dict[str, float]:
    heartbeat = _Heartbeat()
    task = asyncio.create_task(heartbeat.beat())
    await asyncio.sleep(0)
    size = 0
    async for block in expose(metrics):
        size += len(block)
    task.cancel()
    return {
        "longest_pause_ms": heartbeat.longest * 1e3,
        "longest_pause_cpu_ms": heartbeat.longest_cpu * 1e3,
        "cpu_ms": heartbeat.total_cpu * 1e3,
        "bytes": float(size),
    }
