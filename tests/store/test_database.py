"""What both databases do in the same way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sidekey.store.database import Database
from sidekey.store.errors import StoreUnavailable
from support.stores import Place


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    """Connected, with a table."""
    database = place.database()
    await database.connect(create=True)
    async with database.writing() as transaction:
        await transaction.execute("CREATE TABLE sidekey_t (a BIGINT PRIMARY KEY, b TEXT)")
        await transaction.execute("INSERT INTO sidekey_t (a, b) VALUES ($2, $1)", "é\u0001'", 1 << 61)
    yield database
    await database.close()


async def test_values_come_back_as_they_were_given(database: Database) -> None:
    async with database.reading() as transaction:
        assert await transaction.fetch("SELECT a, b FROM sidekey_t WHERE b = $1", "é\u0001'") == [(1 << 61, "é\u0001'")]
        assert await transaction.fetch("SELECT a FROM sidekey_t WHERE b = $1", "none") == []


async def test_the_number_of_changed_rows_is_told(database: Database) -> None:
    async with database.writing() as transaction:
        assert await transaction.execute("UPDATE sidekey_t SET b = $1", "x") == 1
        assert await transaction.execute("UPDATE sidekey_t SET b = $1 WHERE a = $2", "x", 7) == 0
        assert await transaction.execute("DELETE FROM sidekey_t WHERE a > $1", 0) == 1


async def test_a_statement_is_done_for_many_rows_or_for_none(database: Database) -> None:
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


async def test_what_raises_is_rolled_back(database: Database) -> None:
    with pytest.raises(KeyError):
        async with database.writing() as transaction:
            await transaction.execute("DELETE FROM sidekey_t")
            raise KeyError
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1


async def test_a_statement_that_is_refused_shows_no_value(database: Database) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        async with database.writing() as transaction:
            await transaction.execute("INSERT INTO sidekey_t (a, b) VALUES ($1, $2)", 1 << 61, "canary")
    assert "refused a statement" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_a_reader_sees_one_state(database: Database, place: Place) -> None:
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
        await place.sql("INSERT INTO sidekey_t (a, b) VALUES (2, 'two')")
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 2


async def test_the_time_is_in_seconds(database: Database) -> None:
    async with database.writing() as transaction:
        assert 1_700_000_000 < await transaction.now() < 10_000_000_000


async def test_a_sound_database_has_no_damage(database: Database) -> None:
    assert await database.damaged() == ""


async def test_a_closed_one_connects_again_as_needed(database: Database) -> None:
    await database.close()
    async with database.reading() as transaction:
        assert len(await transaction.fetch("SELECT a FROM sidekey_t")) == 1
