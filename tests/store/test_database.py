"""Behaviour that both databases share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidekey.store.database import Database
from sidekey.store.errors import StoreUnavailable
from support.stores import StoreBackend


@pytest.fixture
async def database(place: StoreBackend) -> AsyncIterator[Database]:
    """A connected database with one table."""
    database = place.database()
    await database.connect(create=True)
    async with database.writing() as transaction:
        await transaction.execute("CREATE TABLE sidekey_t (a BIGINT PRIMARY KEY, b TEXT)")
        await transaction.execute("INSERT INTO sidekey_t (a, b) VALUES ($2, $1)", "é\u0001'", 1 << 61)
    yield database
    await database.close()


async def test_values_are_read_back_unchanged(database: Database) -> None:
    async with database.reading() as transaction:
        assert await transaction.fetch("SELECT a, b FROM sidekey_t WHERE b = $1", "é\u0001'") == [(1 << 61, "é\u0001'")]
        assert await transaction.fetch("SELECT a FROM sidekey_t WHERE b = $1", "none") == []


async def test_execute_returns_the_number_of_changed_rows(database: Database) -> None:
    async with database.writing() as transaction:
        assert await transaction.execute("UPDATE sidekey_t SET b = $1", "x") == 1
        assert await transaction.execute("UPDATE sidekey_t SET b = $1 WHERE a = $2", "x", 7) == 0
        assert await transaction.execute("DELETE FROM sidekey_t WHERE a > $1", 0) == 1


async def test_execute_many_inserts_all_rows_or_none(database: Database) -> None:
    insert = "INSERT INTO sidekey_t (a, b) VALUES ($1, $2)"
    async with database.writing() as transaction:
        await transaction.execute_many(insert, [(number, f"n{number}") for number in range(3)])
    with pytest.raises(StoreUnavailable):
        async with database.writing() as transaction:
            await transaction.execute_many(insert, [(7, "x"), (1, "y")])
    async with database.reading() as transaction:
        assert await transaction.fetch("SELECT b FROM sidekey_t WHERE a < $1 ORDER BY a", 10) == [
            ("n0",),
            ("n1",),
            ("n2",),
        ]


async def test_transaction_is_rolled_back_after_an_error(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.writing() as transaction:
            await transaction.execute("DELETE FROM sidekey_t")
            raise KeyError
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1


async def test_error_of_a_statement_shows_no_value(database: Database) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        async with database.writing() as transaction:
            await transaction.execute("INSERT INTO sidekey_t (a, b) VALUES ($1, $2)", 1 << 61, "canary")
    assert "refused a statement" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_reading_transaction_sees_one_snapshot(database: Database, place: StoreBackend) -> None:
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
        await place.sql("INSERT INTO sidekey_t (a, b) VALUES (2, 'two')")
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 2


async def test_clock_is_in_seconds(database: Database) -> None:
    async with database.writing() as transaction:
        assert 1_700_000_000 < await transaction.now() < 10_000_000_000


async def test_intact_database_has_no_damage(database: Database) -> None:
    assert await database.find_damage() == ""


async def test_closed_database_connects_again(database: Database) -> None:
    await database.close()
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
