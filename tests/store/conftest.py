"""Run each test of the store that takes `place` on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.postgres import Postgres
from support.stores import Place, PostgresPlace, SqlitePlace


@pytest.fixture
def sqlite_place(tmp_path: Path) -> SqlitePlace:
    """A file that does not exist yet."""
    return SqlitePlace(tmp_path)


@pytest.fixture
async def postgres_place(postgres: Postgres) -> PostgresPlace:
    """A new schema."""
    return PostgresPlace(postgres, await postgres.schema())


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty database."""
    database: Place = request.getfixturevalue(f"{request.param}_place")
    return database
