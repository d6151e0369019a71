"""SQLite: whose the file is, what becomes of a disk that is full, and of a file that is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sidekey.store.database import PATIENCE
from sidekey.store.errors import StoreError, StoreRefused, StoreUnavailable
from sidekey.store.sqlite import SqliteDatabase
from sidekey.store.state import Put
from sidekey.store.store import Store
from support.stores import ENTRY, RING, SqlitePlace, integration, raised


@pytest.fixture
def place(sqlite_place: SqlitePlace) -> SqlitePlace:
    """Here SQLite alone is the subject."""
    return sqlite_place


def modes(folder: Path) -> dict[str, int]:
    """The file modes of what is in a folder."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_the_files_are_this_users_alone(place: SqlitePlace) -> None:
    """Whatever the umask is; those that SQLite makes beside it too."""
    before = os.umask(0)
    try:
        async with place.open() as store:
            await store.commit([Put(integration("crm"), None)], ENTRY)
            assert modes(place.path.parent) == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    finally:
        os.umask(before)


async def test_a_file_that_others_may_read_is_taken_from_them(place: SqlitePlace) -> None:
    """A volume's fsGroup gives it to them at each mount."""
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        killed = {path: path.read_bytes() for path in place.path.parent.iterdir()}
    for path, content in killed.items():
        path.write_bytes(content)
        path.chmod(0o664)
    async with place.open() as store:
        assert set(modes(place.path.parent).values()) == {0o600}
        assert set(store.state.integrations) == {"crm"}


async def test_what_is_committed_is_on_the_disk_and_what_is_deleted_is_overwritten(place: SqlitePlace) -> None:
    """WAL, `synchronous=FULL`, `secure_delete`, and nothing that the file's schema could do."""
    async with place.open() as store:
        connection = store._database._connection  # type: ignore[attr-defined]

        async def settings() -> list[object]:
            names = ("journal_mode", "synchronous", "secure_delete", "trusted_schema")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        assert await store._thread.run(settings()) == ["wal", 2, 1, 0]


async def test_deleted_text_is_gone_from_the_file(place: SqlitePlace) -> None:
    async with place.open() as store:
        crm = integration("crm", '{"d":"canary-8d2f"}')
        await store.commit([Put(crm, None)], ENTRY)
        await store.commit([Put(integration("crm", row=crm.row), 1)], ENTRY)
    assert b"canary-8d2f" not in place.path.read_bytes()


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.db-shm"])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
async def test_only_regular_files_are_opened(place: SqlitePlace, kind: str, name: str) -> None:
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


async def test_another_users_file_is_refused(place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.open():
        pass
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(StoreRefused, match="must belong to the user that Sidekey runs as"):
            async with place.open():
                pass
    lstat = Path.lstat

    def foreign(path: Path) -> os.stat_result:
        found = lstat(path)
        return os.stat_result((*found[:4], 12345, *found[5:]))

    beside = place.path.with_name("store.db-wal")
    beside.touch()
    monkeypatch.setattr(Path, "lstat", foreign)
    with pytest.raises(StoreRefused, match=r"store\.db-wal must belong to the user that Sidekey runs as"):
        async with place.open():
            pass


async def test_a_folder_that_is_not_there_is_named(place: SqlitePlace) -> None:
    database = SqliteDatabase(place.path.parent / "none" / "store.db")
    with pytest.raises(StoreUnavailable, match=r"none/store\.db cannot be opened: No such file or directory"):
        await Store.open(database, RING, retention=1)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"\x00" * 4096], ids=["text", "zeros"])
async def test_what_is_no_database_is_left_alone(place: SqlitePlace, content: bytes) -> None:
    place.path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"is not an SQLite database \(SQLITE_NOTADB\)"):
        async with place.open():
            pass
    assert place.path.read_bytes() == content


async def test_a_damaged_file_is_found(place: SqlitePlace) -> None:
    async with place.open() as store:
        await store.commit([Put(integration(f"i{number}", "x" * 5000), None) for number in range(20)], ENTRY)
    with place.path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096 * 10)
    with pytest.raises(StoreUnavailable, match="is damaged: restore it from a backup"):
        async with place.open() as store:
            findings = (await store.verify(lambda _: ())).findings
            raise StoreUnavailable("; ".join(findings))


async def test_a_file_that_has_become_read_only_is_served(place: SqlitePlace) -> None:
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)

        async def protect(on: int) -> None:
            # For root, whom no file mode stops.
            store._database._connection.execute(f"PRAGMA query_only={on}")  # type: ignore[attr-defined]

        await store._thread.run(protect(1))
        with pytest.raises(StoreUnavailable, match=r"is read-only \(SQLITE_READONLY\)"):
            await store.commit([Put(integration("sms"), None)], ENTRY)
        assert set((await store.read()).integrations) == {"crm"}
        await store._thread.run(protect(0))
        await store.commit([Put(integration("sms"), None)], ENTRY)


async def test_a_writer_that_does_not_end_is_named(place: SqlitePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile the event loop goes on, and rows are read."""
    monkeypatch.setattr("sidekey.store.sqlite.PATIENCE", 0.3)
    assert PATIENCE == 5.0
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
            assert set((await store.read()).integrations) == {"crm"}
            other.execute("ROLLBACK")
        await store.commit([Put(integration("sms"), None)], ENTRY)


async def test_a_file_that_was_replaced_is_the_one_that_counts(place: SqlitePlace) -> None:
    """A backup that is put in its place while Sidekey runs is noticed, and used."""
    async with place.open() as store:
        await store.commit([Put(integration("one"), None)], ENTRY)
    backup = place.path.read_bytes()
    async with place.open() as store:
        await store.commit([Put(integration("two"), None)], ENTRY)
        for name in ("", "-wal", "-shm"):
            Path(f"{place.path}{name}").unlink()
        with pytest.raises(StoreUnavailable, match="cannot be opened: No such file or directory"):
            await store.read()
        assert not place.path.exists()
        place.path.write_bytes(backup)
        state = await store.read()
        assert set(state.integrations) == {"one"}
        assert state.rolled_back == {("integration", "two"): (1, 0)}


async def test_another_file_with_as_many_changes_is_read_whole(place: SqlitePlace) -> None:
    """Its revisions are the same: only the new connection tells."""
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
        state = await store.read()
        assert (set(state.integrations), state.revision) == ({"two"}, 1)
        assert state.rolled_back == {("integration", "one"): (1, 0)}


@pytest.mark.parametrize("value", ["x'ff00'", "CAST(x'eda080ff' AS TEXT)", "7"])
@pytest.mark.parametrize("table", ["rows", "keys", "store", "leases", "audit"])
async def test_no_value_of_a_column_is_a_defect(
    place: SqlitePlace, table: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes bytes that are no text, and numbers where there should be none; whoever runs goes on."""
    monkeypatch.setattr("sidekey.store.store.POLL_INTERVAL", 0.005)
    async with place.open() as store:
        await store.commit([Put(integration("crm"), None)], ENTRY)
        await store.lease("file:crm", "lineage", ("",), 60)
        woken = asyncio.Event()
        store.watch(woken.set, raised)
        for (column,) in await place.sql(f"SELECT name FROM pragma_table_info('sidekey_{table}')"):
            before = await place.backup()
            await place.sql(f'UPDATE sidekey_{table} SET "{column}" = {value}')
            for ask in (store.read, store.audit_page, lambda: store.lease("file:crm", "lineage", ("",), 60)):
                with contextlib.suppress(StoreError):
                    await ask()
            with contextlib.suppress(StoreError):
                async with place.open() as other:
                    await other.verify(lambda _: ())
                    await other.lease("file:crm", "lineage", ("",), 60)
            await asyncio.sleep(0.02)
            await place.restore(before)
        assert set((await store.read()).integrations) == {"crm"}
