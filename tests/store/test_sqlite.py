"""SQLite: ownership and modes of its files, full disks, and replaced files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sidekey.store.database import MAX_WAIT
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable
from sidekey.store.sqlite import SqliteDatabase
from sidekey.store.state import Put
from sidekey.store.store import Store
from support.stores import ENTRY, RING, SqliteBackend, fail_on_defect, integration


@pytest.fixture
def place(sqlite_place: SqliteBackend) -> SqliteBackend:
    """Restrict these tests to SQLite."""
    return sqlite_place


def modes(folder: Path) -> dict[str, int]:
    """Return the file modes in a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_only_the_owner_can_read_the_files(place: SqliteBackend) -> None:
    """With any umask. SQLite creates its other files with the same mode."""
    before = os.umask(0)
    try:
        async with place.open() as store:
            await store.commit([Put(integration("crm"), None)], ENTRY)
            assert modes(place.path.parent) == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    finally:
        os.umask(before)


async def test_access_of_other_users_is_removed(place: SqliteBackend) -> None:
    """The fsGroup of a volume grants it at each mount."""
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        killed = {path: path.read_bytes() for path in place.path.parent.iterdir()}
    for path, content in killed.items():
        path.write_bytes(content)
        path.chmod(0o664)
    async with place.open() as store:
        assert set(modes(place.path.parent).values()) == {0o600}
        assert set(store.state.integrations) == {"crm"}


async def test_connection_settings_are_durable_and_safe(place: SqliteBackend) -> None:
    """WAL, `synchronous=FULL`, `secure_delete`, and no trusted schema."""
    async with place.open() as store:
        connection = store._database._connection  # type: ignore[attr-defined]

        async def settings() -> list[object]:
            names = ("journal_mode", "synchronous", "secure_delete", "trusted_schema")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store._thread.run(settings()) == ["wal", 2, 1, 0]


async def test_deleted_text_is_overwritten_in_the_file(place: SqliteBackend) -> None:
    async with place.open() as store:
        crm = integration("crm", '{"d":"canary-8d2f"}')
        await store.commit([Put(crm, None)], ENTRY)
        await store.commit([Put(integration("crm", row=crm.row_id), 1)], ENTRY)
    assert b"canary-8d2f" not in place.path.read_bytes()


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm"])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
async def test_only_regular_files_are_opened(place: SqliteBackend, kind: str, name: str) -> None:
    path = place.path.with_name(name)
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_text("precious")
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(elsewhere)
    else:
        os.mkfifo(path)
    with pytest.raises((StoreRefused, StoreUnavailable), match=str(path)):
        async with place.open():
            pass
    assert elsewhere.read_text() == "precious"


async def test_file_of_another_user_is_refused(place: SqliteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.open():
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(StoreRefused, match="must belong to the user that Sidekey runs as"):
            async with place.open():
                pass
    lstat = Path.lstat

    def foreign(path: Path) -> os.stat_result:
        status = lstat(path)
        return os.stat_result((*status[:4], 12345, *status[5:]))

    beside = place.path.with_name("store.db-wal")
    beside.touch()
    monkeypatch.setattr(Path, "lstat", foreign)
    with pytest.raises(StoreRefused, match=r"store\.db-wal must belong to the user that Sidekey runs as"):
        async with place.open():
            pass


async def test_missing_folder_is_named(place: SqliteBackend) -> None:
    database = SqliteDatabase(place.path.parent / "none" / "store.db")
    with pytest.raises(StoreUnavailable, match=r"none/store\.db cannot be opened: No such file or directory"):
        await Store.open(database, RING, retention=1)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"\x00" * 4096], ids=["text", "zeros"])
async def test_file_that_is_not_a_database_is_not_touched(place: SqliteBackend, content: bytes) -> None:
    place.path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"is not an SQLite database \(SQLITE_NOTADB\)"):
        async with place.open():
            pass
    assert place.path.read_bytes() == content


async def test_damaged_file_is_reported(place: SqliteBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(integration(f"i{number}", "x" * 5000), None) for number in range(20)], ENTRY)
    with place.path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096 * 10)
    with pytest.raises(StoreUnavailable, match="is damaged: restore it from a backup"):
        async with place.open() as store:
            findings = (await store.verify(lambda _: ())).findings
            raise StoreUnavailable("; ".join(findings))


async def test_read_only_database_can_still_be_read(place: SqliteBackend) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)

        async def protect(on: int) -> None:
            # File modes do not stop root.
            store._database._connection.execute(f"PRAGMA query_only={on}")  # type: ignore[attr-defined]

        await store._thread.run(protect(1))
        with pytest.raises(StoreUnavailable, match=r"is read-only \(SQLITE_READONLY\)"):
            await store.commit([Put(integration("sms"), None)], ENTRY)
        assert set((await store.refresh()).integrations) == {"crm"}
        await store._thread.run(protect(0))
        await store.commit([Put(integration("sms"), None)], ENTRY)


async def test_lock_of_another_process_times_out_with_an_error(
    place: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the event loop runs, and rows can be read."""
    monkeypatch.setattr("sidekey.store.sqlite.MAX_WAIT", 0.3)
    assert MAX_WAIT == 5.0
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        with closing(sqlite3.connect(place.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.commit([Put(integration("sms"), None)], ENTRY))
            turns = 0
            while not writing.done():
                await asyncio.sleep(0.001)
                turns += 1
            with pytest.raises(StoreUnavailable, match="is locked by another process"):
                await writing
            assert turns > 2
            assert set((await store.refresh()).integrations) == {"crm"}
            other.execute("ROLLBACK")
        await store.commit([Put(integration("sms"), None)], ENTRY)


async def test_replaced_file_is_noticed_and_used(place: SqliteBackend) -> None:
    """A backup may be restored while Sidekey runs."""
    async with place.open() as store:
        await store.commit([Put(integration("one"), None)], ENTRY)
    backup = place.path.read_bytes()
    async with place.open() as store:
        await store.commit([Put(integration("two"), None)], ENTRY)
        for name in ("", "-wal", "-shm"):
            Path(f"{place.path}{name}").unlink()
        with pytest.raises(StoreUnavailable, match="cannot be opened: No such file or directory"):
            await store.refresh()
        assert not place.path.exists()
        place.path.write_bytes(backup)
        state = await store.refresh()
        assert set(state.integrations) == {"one"}
        assert state.rolled_back == {("integration", "two"): (1, 0)}


async def test_replaced_file_with_the_same_revision_is_read(place: SqliteBackend) -> None:
    """Only the new connection shows the difference."""
    async with place.open():
        pass
    empty = place.path.read_bytes()
    async with place.open() as store:
        await store.commit([Put(integration("two"), None)], ENTRY)
    other = place.path.read_bytes()
    place.path.write_bytes(empty)
    async with place.open() as store:
        await store.commit([Put(integration("one"), None)], ENTRY)
        for name in ("", "-wal", "-shm"):
            Path(f"{place.path}{name}").unlink()
        place.path.write_bytes(other)
        state = await store.refresh()
        assert (set(state.integrations), state.revision) == ({"two"}, 1)
        assert state.rolled_back == {("integration", "one"): (1, 0)}


@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'eda080ff' AS TEXT)", "7"])
@pytest.mark.parametrize("table", ["rows", "keys", "store", "leases", "audit"])
async def test_no_column_value_causes_a_defect(
    place: SqliteBackend, table: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite accepts bytes that are not text, and numbers in text columns."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.005)
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        await store.acquire_lease("file:crm", "lineage", ("",), 60)
        woken = asyncio.Event()
        store.watch(woken.set, fail_on_defect)
        for (column,) in await place.sql(f"SELECT name FROM pragma_table_info('sidekey_{table}')"):
            before = await place.backup()
            await place.sql(f'UPDATE sidekey_{table} SET "{column}" = {value}')
            for call in (
                store.refresh,
                store.audit_page,
                lambda: store.acquire_lease("file:crm", "lineage", ("",), 60),
            ):
                with contextlib.suppress(StoreError):
                    await call()
            with contextlib.suppress(StoreError):
                async with place.open() as other:
                    await other.verify(lambda _: ())
                    await other.acquire_lease("file:crm", "lineage", ("",), 60)
            await asyncio.sleep(0.02)
            await place.restore(before)
        assert set((await store.refresh()).integrations) == {"crm"}
