"""A process that manages a store, without a data plane or listeners."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sidekey.config.load import Loader
from sidekey.config.reload import Reloader, ReloadHooks
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.publish import Publisher
from sidekey.snapshot.snapshot import Snapshot
from sidekey.snapshot.status import status_of
from sidekey.store.records import IntegrationRow
from sidekey.store_manager import StoreManager
from support.loading import loaded_snapshot
from support.scripted import DISCARD


def states_of(snapshot: Snapshot, now: float) -> dict[str, str]:
    """Return the status of each stored integration that no file replaces."""
    assert snapshot.stored is not None
    return {
        name: status_of(snapshot.integrations.get(name), now, problem=problem).status
        for name, problem in snapshot.stored.problems.items()
    }


@dataclass
class StoreFollower:
    """Follows the store and its config file. `defects` must be empty at its end."""

    folder: Path
    managed: StoreManager
    publisher: Publisher
    metrics: Metrics
    defects: list[BaseException]

    def write(self, text: str) -> None:
        """Replace the config file atomically."""
        (self.folder / "sidekey.tmp").write_text(text)
        (self.folder / "sidekey.tmp").rename(self.folder / "sidekey.yaml")

    def report(self, defect: BaseException) -> str:
        """Record a defect, and return its ID in the log."""
        self.defects.append(defect)
        return ""

    @property
    def snapshot(self) -> Snapshot:
        return self.publisher.snapshot

    def states(self) -> dict[str, str]:
        return states_of(self.snapshot, time.time())

    def row(self, name: str) -> IntegrationRow:
        return self.managed.store.state.integrations[name]


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[StoreFollower]:
    """Follow the store of `sidekey.yaml` in a folder."""
    loader = Loader(folder / "sidekey.yaml", {})
    loaded = loader.load()
    rules = loaded_snapshot(loaded).store
    assert rules is not None
    managed = await StoreManager.start(rules, loader)
    defects: list[BaseException] = []
    publisher = Publisher(loader.combine(loaded), [managed], defects.append)
    metrics = Metrics()

    async def rotate(paths: set[Path]) -> None:
        del paths

    publisher.publish(publisher.snapshot)
    running = StoreFollower(folder, managed, publisher, metrics, defects)
    hooks = ReloadHooks(publisher, set, rotate, metrics, running.report, AuditLog(DISCARD, "off"))
    reloader = Reloader(loader, loaded, hooks, strict=False)
    reloader.start()
    managed.connect(reloader, metrics)
    try:
        yield running
    finally:
        await reloader.close()
        await managed.close()
    assert defects == []
