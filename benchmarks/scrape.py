"""What a scrape costs: its CPU time, and how long it keeps the event loop from everybody else."""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter, process_time

from sidekey.observe.exposition import expose
from sidekey.observe.metrics import Metrics

ROUNDS = 5


def run(integrations: int = 1000) -> dict[str, float]:
    """Scrape that many active integrations beside a task that asks for the loop without end.

    Answers medians of several scrapes: `pause_ms`, the longest that the task waited for its turn, `cpu_ms`, the
    scrape's own processor time, and `bytes`, the size of the page.
    """
    metrics = active(integrations)
    rounds = [asyncio.run(_scrape(metrics)) for _ in range(ROUNDS)]
    return {key: statistics.median(measured[key] for measured in rounds) for key in rounds[0]}


def active(integrations: int) -> Metrics:
    """Metrics of integrations that each had requests of several outcomes and durations."""
    metrics = Metrics()
    for number in range(integrations):
        stats = metrics.stats(f"integration-{number}")
        for outcome, seconds in (("2xx", 0.004), ("4xx", 0.03), ("upstream_timeout", 30.0)):
            stats.record(outcome, seconds)
    return metrics


async def _scrape(metrics: Metrics) -> dict[str, float]:
    longest = waiting = 0.0

    async def heartbeat() -> None:
        nonlocal longest, waiting
        last = perf_counter()
        while True:
            cpu = process_time()
            await asyncio.sleep(0)
            now = perf_counter()
            longest, last = max(longest, now - last), now
            waiting += process_time() - cpu

    beat = asyncio.create_task(heartbeat())
    await asyncio.sleep(0)
    size = 0
    async for block in expose(metrics):
        size += len(block)
    beat.cancel()
    return {"pause_ms": longest * 1e3, "cpu_ms": waiting * 1e3, "bytes": float(size)}
