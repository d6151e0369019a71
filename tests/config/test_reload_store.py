"""The reloader publishes changes of the store, one at a time with those of files."""

from __future__ import annotations

import asyncio
import gc
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidekey.config.load import Loader
from sidekey.config.reload import Reloader, ReloadError, ReloadHooks
from sidekey.config.stored.build import StoredSource
from sidekey.observe.audit import AuditLog
from sidekey.observe.metrics import Metrics
from sidekey.publish import Commit, Publisher
from sidekey.snapshot.snapshot import Snapshot
from sidekey.store.records import IntegrationRow
from sidekey.store.state import State
from support.files import replace
from support.plane import eventually
from support.raw_connection import DEADLINE
from support.scripted import DISCARD
from support.stored import BASIC, VAULT, stored

HEAD = "version: 1\nstore: {path: store/s.db, keys: [{id: k1, key: {file: k1}}]}\n"
OWN = "integrations: {own: {endpoint_prefix: 'https://own.test', auth: {type: headers, headers: {X-A: b}}}}\n"


@dataclass
class Process:
    """A process that follows a config and a store, and keeps the snapshots instead of serving them."""

    folder: Path
    source: StoredSource = field(default_factory=lambda: StoredSource(lambda _: None))
    metrics: Metrics = field(default_factory=Metrics)
    adopted: list[Snapshot] = field(default_factory=list)
    defects: list[BaseException] = field(default_factory=list)
    fails: bool = False
    reloader: Reloader | None = None

    def write(self, text: str, head: str = HEAD) -> None:
        replace(self.folder / "sidekey.yaml", head + text)

    def prepare(self, snapshot: Snapshot) -> Commit:
        if self.fails:
            raise ZeroDivisionError
        return lambda: self.adopted.append(snapshot)

    def report(self, defect: BaseException) -> str:
        self.defects.append(defect)
        return "1"

    async def rotate(self, paths: set[Path]) -> None:
        del paths

    async def put(self, *rows: IntegrationRow) -> None:
        """Publish a store with these rows."""
        assert self.reloader is not None
        state = State(integrations={row.id: row for row in rows})
        await self.reloader.publish_store(lambda: self.source.update(state, VAULT))

    @property
    def now(self) -> list[str]:
        return sorted(self.adopted[-1].integrations) if self.adopted else []


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[Process]:
    process = Process(folder)
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    process.write(OWN)
    loader = Loader(folder / "sidekey.yaml", {})
    loader.use_store(process.source)
    loaded = loader.load()
    assert loaded.snapshot is not None
    publisher = Publisher(loaded.snapshot, [process], process.report)
    process.reloader = Reloader(
        loader,
        loaded,
        ReloadHooks(publisher, set, process.rotate, process.metrics, process.report, AuditLog(DISCARD, "off")),
        strict=False,
    )
    process.reloader.start()
    try:
        yield process
    finally:
        await process.reloader.close()


async def test_store_change_is_in_use_when_join_returns(tmp_path: Path) -> None:
    """Even if the files have errors."""
    async with following(tmp_path) as process:
        await process.put(stored(BASIC, "a"))
        assert process.now == ["a", "own"]
        own = process.adopted[-1].integrations["own"]
        process.write("nonsense: 1\n")
        await eventually(lambda: process.metrics.config_loaded is False)
        await process.put(stored(BASIC, "a"), stored(BASIC, "b"))
        assert process.now == ["a", "b", "own"]
        assert process.adopted[-1].integrations["own"] is own
        assert process.metrics.config_loaded is False
        assert process.metrics.config_loaded_at == 0
        process.write(f"{OWN}via: false\n")
        await eventually(lambda: process.metrics.config_loaded)
        assert process.now == ["a", "b", "own"]
        assert (process.adopted[-1].via, process.adopted[-1].integrations["own"]) == (False, own)
        await process.put()
        assert (process.now, process.adopted[-1].via) == (["own"], False)
    assert process.defects == []


async def test_simultaneous_changes_of_files_and_store_are_each_complete(tmp_path: Path) -> None:
    """The last snapshot has the newest state of both."""
    async with following(tmp_path) as process:
        row = stored(BASIC, "a")
        for number in range(10):
            process.write(f"{OWN}limits: {{in_flight: {number + 1}}}\n")
            await asyncio.gather(process.put(row), process.put(row, stored(BASIC, f"b{number}")))
            assert process.now == ["a", f"b{number}", "own"]
        await eventually(lambda: process.adopted[-1].limits.in_flight == 10)
        assert process.now == ["a", "b9", "own"]
        assert len({id(snapshot.integrations.get("a")) for snapshot in process.adopted} - {id(None)}) == 1
    assert gc.isenabled()
    assert process.defects == []


async def test_frequent_store_changes_do_not_delay_checks_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.01)
    async with following(tmp_path) as process, asyncio.timeout(DEADLINE):
        assert process.reloader is not None
        await process.reloader.request_load()
        process.write(f"{OWN}limits: {{in_flight: 5}}\n")
        first, second = stored(BASIC, "a"), stored(BASIC, "b")
        while not process.adopted or process.adopted[-1].limits.in_flight != 5:
            await asyncio.gather(process.put(first), process.put(first, second))
    assert process.defects == []


async def test_join_raises_if_the_store_cannot_be_published(tmp_path: Path) -> None:
    """The previous content stays in use, and the next change is tried."""
    async with following(tmp_path) as process:
        await process.put(stored(BASIC, "a"))
        before = list(process.adopted)
        process.fails = True
        with pytest.raises(ReloadError):
            await process.put(stored(BASIC, "b"))
        assert process.adopted == before
        assert [type(defect) for defect in process.defects] == [ZeroDivisionError]
        process.fails = False
        await process.put(stored(BASIC, "c"))
        assert process.now == ["c", "own"]


async def test_close_wakes_waiters_of_join(tmp_path: Path) -> None:
    async with following(tmp_path) as process:
        reloader = process.reloader
        assert reloader is not None
        waiting = [asyncio.ensure_future(process.put(stored(BASIC, name))) for name in ("a", "b")]
        await asyncio.sleep(0)
        await reloader.close()
        assert {type(result) for result in await asyncio.gather(*waiting, return_exceptions=True)} == {ReloadError}
        with pytest.raises(ReloadError):
            await process.put(stored(BASIC, "c"))
