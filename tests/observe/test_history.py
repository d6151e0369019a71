"""The history of a process without a store."""

from __future__ import annotations

import asyncio
import time

import pytest

from sidekey.observe import history
from sidekey.observe.access import AccessLine
from sidekey.observe.history import History, sum_counters
from sidekey.observe.metrics import Metrics
from sidekey.snapshot.snapshot import Snapshot
from support.plane import integration


class Process:
    """Counters like those of the data plane, with their history."""

    def __init__(self, *names: str) -> None:
        self.snapshot = Snapshot({name: integration(name, f"https://{name}.test") for name in names})
        self.metrics = Metrics()
        self.metrics.prepare(self.snapshot)()
        self.history = History(self.metrics, lambda: self.snapshot)

    def request(self, name: str, status: int = 200) -> None:
        stats = self.metrics.stats(name)
        stats.record("401" if status == 401 else "2xx", 0.2)
        if status == 401:
            line = AccessLine(
                name, "", "", "GET", "host", 0, status, "", "", "", "", "id", "", "", "", 0.2, 0, 0, 0, 0, 0
            )
            self.history.note_failure(stats, line)


async def test_process_without_a_store_has_usage_and_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_USAGE_INTERVAL", 0.01)
    monkeypatch.setattr(history, "_FAILURES_INTERVAL", 0.01)
    process = Process("crm", "idle")
    process.history.start(None, pytest.fail)
    for status in (200, 401, 401, 401):
        process.request("crm", status)
        await asyncio.sleep(0.05)
    usage = await process.history.usage("integration", ["crm", "idle"], 24)
    assert sum_counters(usage["crm"].hours)[:2] == (4, 3)
    assert abs(usage["crm"].last_at - time.time()) < 60
    assert (usage["idle"].hours, usage["idle"].last_at) == ([], 0)
    assert process.history.failing().keys() == {"crm"}
    assert (await process.history.failures("crm", 1 << 40))[0][-1].request_id == "id"
    await process.history.close()


async def test_process_without_a_store_keeps_failures_of_200_integrations() -> None:
    names = [f"i{number:03}" for number in range(250)]
    process = Process(*names)
    for name in names:
        process.request(name, 401)
    with_failures = [name for name in names if (await process.history.failures(name, 1 << 40))[0]]
    assert with_failures == names[50:]
