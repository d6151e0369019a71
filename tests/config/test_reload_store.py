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
from support.scripted import NOWHERE
from support.stored import BASIC, VAULT, stored

HEAD = "version: 1\nstore: {path: store/s.db, keys: [{id: k1, key: {file: k1}}]}\n"
OWN = "integrations: {own: {endpoint_prefix: 'https://own.test', auth: {type: headers, headers: {X-A: b}}}}\n"


@dataclass
class Rig:
    """A process that follows a config and a store; what is adopted is kept."""

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
        await self.reloader.join(lambda: self.source.take(state, VAULT))

    @property
    def now(self) -> list[str]:
        return sorted(self.adopted[-1].integrations) if self.adopted else []


@asynccontextmanager
async def following(folder: Path) -> AsyncIterator[Rig]:
    rig = Rig(folder)
    (folder / "k1").write_text(b64encode(b"1" * 32).decode())
    rig.write(OWN)
    loader = Loader(folder / "sidekey.yaml", {})
    loader.follow(rig.source)
    loaded = loader.load()
    assert loaded.snapshot is not None
    publisher = Publisher(loaded.snapshot, [rig], rig.report)
    rig.reloader = Reloader(
        loader,
        loaded,
        ReloadHooks(publisher, set, rig.rotate, rig.metrics, rig.report, AuditLog(NOWHERE, "off")),
        strict=False,
    )
    rig.reloader.start()
    try:
        yield rig
    finally:
        await rig.reloader.close()


async def test_store_change_is_in_use_when_join_returns(tmp_path: Path) -> None:
    """Even if the files have errors."""
    async with following(tmp_path) as rig:
        await rig.put(stored(BASIC, "a"))
        assert rig.now == ["a", "own"]
        own = rig.adopted[-1].integrations["own"]
        rig.write("nonsense: 1\n")
        await eventually(lambda: rig.metrics.config_loaded is False)
        await rig.put(stored(BASIC, "a"), stored(BASIC, "b"))
        assert rig.now == ["a", "b", "own"]
        assert rig.adopted[-1].integrations["own"] is own
        assert rig.metrics.config_loaded is False
        assert rig.metrics.config_loaded_at == 0
        rig.write(f"{OWN}via: false\n")
        await eventually(lambda: rig.metrics.config_loaded)
        assert rig.now == ["a", "b", "own"]
        assert (rig.adopted[-1].via, rig.adopted[-1].integrations["own"]) == (False, own)
        await rig.put()
        assert (rig.now, rig.adopted[-1].via) == (["own"], False)
    assert rig.defects == []


async def test_simultaneous_changes_of_files_and_store_are_each_complete(tmp_path: Path) -> None:
    """The last snapshot has the newest state of both."""
    async with following(tmp_path) as rig:
        one = stored(BASIC, "a")
        for number in range(10):
            rig.write(f"{OWN}limits: {{in_flight: {number + 1}}}\n")
            await asyncio.gather(rig.put(one), rig.put(one, stored(BASIC, f"b{number}")))
            assert rig.now == ["a", f"b{number}", "own"]
        await eventually(lambda: rig.adopted[-1].limits.in_flight == 10)
        assert rig.now == ["a", "b9", "own"]
        assert len({id(snapshot.integrations.get("a")) for snapshot in rig.adopted} - {id(None)}) == 1
    assert gc.isenabled()
    assert rig.defects == []


async def test_frequent_store_changes_do_not_delay_checks_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidekey.config.reload.CHECK_EVERY", 0.01)
    async with following(tmp_path) as rig, asyncio.timeout(DEADLINE):
        assert rig.reloader is not None
        await rig.reloader.request_load()
        rig.write(f"{OWN}limits: {{in_flight: 5}}\n")
        one, two = stored(BASIC, "a"), stored(BASIC, "b")
        while not rig.adopted or rig.adopted[-1].limits.in_flight != 5:
            await asyncio.gather(rig.put(one), rig.put(one, two))
    assert rig.defects == []


async def test_join_raises_if_the_store_cannot_be_published(tmp_path: Path) -> None:
    """The previous content stays in use, and the next change is tried."""
    async with following(tmp_path) as rig:
        await rig.put(stored(BASIC, "a"))
        before = list(rig.adopted)
        rig.fails = True
        with pytest.raises(ReloadError):
            await rig.put(stored(BASIC, "b"))
        assert rig.adopted == before
        assert [type(defect) for defect in rig.defects] == [ZeroDivisionError]
        rig.fails = False
        await rig.put(stored(BASIC, "c"))
        assert rig.now == ["c", "own"]


async def test_close_wakes_waiters_of_join(tmp_path: Path) -> None:
    async with following(tmp_path) as rig:
        reloader = rig.reloader
        assert reloader is not None
        waiting = [asyncio.ensure_future(rig.put(stored(BASIC, name))) for name in ("a", "b")]
        await asyncio.sleep(0)
        await reloader.close()
        assert {type(result) for result in await asyncio.gather(*waiting, return_exceptions=True)} == {ReloadError}
        with pytest.raises(ReloadError):
            await rig.put(stored(BASIC, "c"))
