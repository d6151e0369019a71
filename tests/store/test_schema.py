"""The tables and their version, on both databases."""

from __future__ import annotations

import pytest

from sidekey.store.errors import StoreRefused
from sidekey.store.schema import VERSION
from support.stores import StoreBackend


async def test_newer_schema_is_refused(place: StoreBackend) -> None:
    async with place.open():
        pass
    await place.sql("INSERT INTO sidekey_schema (version) VALUES (99)")
    with pytest.raises(StoreRefused, match=f"schema 99, and this Sidekey knows {VERSION} at most: run a newer"):
        async with place.open():
            pass


async def test_database_without_its_version_is_not_touched(place: StoreBackend) -> None:
    async with place.open():
        pass
    await place.sql("DELETE FROM sidekey_schema")
    before = await place.backup()
    with pytest.raises(StoreRefused, match="has lost its version: restore a backup"):
        async with place.open():
            pass
    assert await place.backup() == before


async def test_store_is_not_created_unless_requested(place: StoreBackend) -> None:
    database = place.database()
    await database.connect(create=True)
    await database.close()
    with pytest.raises(StoreRefused, match="there is no store yet"):
        async with place.open(create=False):
            pass
    with pytest.raises(Exception, match="sidekey_schema"):
        await place.sql("SELECT * FROM sidekey_schema")
