"""No secret is on the disk in plain text: not in the database, its WAL or journal, nor in the log of the server."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sidekey.store.errors import StoreUnavailable
from sidekey.store.leases import Lease
from sidekey.store.state import Delete, Put
from support.captured_logs import capture_logging
from support.stores import ENTRY, KEYS, PostgresBackend, SqliteBackend, StoreBackend, purpose_of, sealed

CANARY = "canary-5f0e6a"


def files_with(folder: Path, text: bytes) -> list[Path]:
    """Return the files below a folder that contain this text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if text in path.read_bytes()]


async def test_no_secret_is_on_the_disk_in_plain_text(place: StoreBackend) -> None:
    """Including secrets that were changed, deleted or encrypted again, and those of leases and failed statements."""
    with capture_logging(logging.DEBUG) as log:
        await use(place)
    assert CANARY not in log.text


async def use(place: StoreBackend) -> None:
    """Do all that, and search the disk for the secrets."""
    lineage, result = f"{CANARY}-lineage", f"{CANARY}-result"
    async with place.open({"k2": b"2" * 32, **KEYS}) as store:
        first, second = sealed(store, "one", f"{CANARY}-one", "known"), sealed(store, "two", f"{CANARY}-two")
        await store.commit([Put(first, None), Put(second, None)], ENTRY)
        again = sealed(store, "one", f"{CANARY}-again", "known", row=first.row_id)
        await store.commit([Put(again, 1), Delete(second, 1)], ENTRY)
        lease = await store.acquire_lease("file:crm", lineage, ("",), 60)
        assert isinstance(lease, Lease)
        await store.record_intent(lease, 60)
        await store.finish_lease(lease, result, replaces_token=True)
    async with place.open({"k3": b"3" * 32, "k2": b"2" * 32, **KEYS}) as store:
        assert (await store.rotate_key(purpose_of, "ops")).stuck == ()
        await place.sql("ALTER TABLE sidekey_rows RENAME TO sidekey_moved")
        with pytest.raises(StoreUnavailable):
            await store.commit([Put(sealed(store, "three", f"{CANARY}-three"), None)], ENTRY)
        if isinstance(place, PostgresBackend):
            await place.sql("CHECKPOINT")
            folder = place.postgres.folder
        else:
            assert isinstance(place, SqliteBackend)
            folder = place.path.parent
            assert {path.name for path in folder.iterdir()} == {"store.db", "store.db-wal", "store.db-shm"}
        assert files_with(folder, CANARY.encode()) == []
        # Public values are there, so the search works.
        assert files_with(folder, b"known") != []
