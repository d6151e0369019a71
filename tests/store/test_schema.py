"""Migrations, on both databases."""

from __future__ import annotations

import pytest

from sidekey.store.database import Database
from sidekey.store.errors import StoreRefused, StoreUnavailable
from sidekey.store.schema import MIGRATIONS, migrate
from support.stores import Place

FIRST = ("CREATE TABLE sidekey_a (x BIGINT)",)
SECOND = ("ALTER TABLE sidekey_a ADD COLUMN y TEXT", "INSERT INTO sidekey_a (x, y) VALUES (1, 'one')")
BROKEN = ("INSERT INTO sidekey_a (x, y) VALUES (2, 'two')", "INSERT INTO sidekey_none (x) VALUES (1)")


async def migrated(database: Database, *migrations: tuple[str, ...], create: bool = True) -> None:
    async with database.writing() as transaction:
        await migrate(transaction, migrations, create=create)


async def test_each_migration_is_done_once_and_in_order(place: Place) -> None:
    database = place.database()
    await database.connect(create=True)
    try:
        await migrated(database, FIRST)
        await migrated(database, FIRST)
        await migrated(database, FIRST, SECOND)
        await migrated(database, FIRST, SECOND)
        assert await place.sql("SELECT x, y FROM sidekey_a") == [(1, "one")]
        assert await place.sql("SELECT version FROM sidekey_schema ORDER BY version") == [(1,), (2,)]
    finally:
        await database.close()


async def test_a_migration_that_fails_leaves_what_was_there(place: Place) -> None:
    database = place.database()
    await database.connect(create=True)
    try:
        await migrated(database, FIRST, SECOND)
        with pytest.raises(StoreUnavailable):
            await migrated(database, FIRST, SECOND, ("ALTER TABLE sidekey_a ADD COLUMN z TEXT",), BROKEN)
        assert await place.sql("SELECT * FROM sidekey_a") == [(1, "one")]
        assert await place.sql("SELECT max(version) FROM sidekey_schema") == [(2,)]
    finally:
        await database.close()


async def test_a_newer_schema_is_refused(place: Place) -> None:
    """With what to do about it."""
    async with place.open():
        pass
    await place.sql("INSERT INTO sidekey_schema (version) VALUES (99)")
    with pytest.raises(StoreRefused, match=f"schema 99, and this Sidekey knows {len(MIGRATIONS)} at most: run a newer"):
        async with place.open():
            pass


async def test_nothing_is_made_where_that_was_not_asked_for(place: Place) -> None:
    database = place.database()
    await database.connect(create=True)
    try:
        with pytest.raises(StoreRefused, match="there is no store yet"):
            await migrated(database, FIRST, create=False)
        with pytest.raises(Exception, match="sidekey_schema"):
            await place.sql("SELECT * FROM sidekey_schema")
    finally:
        await database.close()
