"""Run each test of the store that takes `place` on SQLite and on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.postgres import Postgres
from support.stores import PostgresBackend, SqliteBackend, StoreBackend


@pytest.fixture
def sqlite_place(tmp_path: Path) -> SqliteBackend:
    """A file that does not exist yet."""
    return SqliteBackend(tmp_path)


@pytest.fixture
async def postgres_place(postgres: Postgres) -> PostgresBackend:
    """A new schema."""
    return PostgresBackend(postgres, await postgres.schema())


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> StoreBackend:
    """An empty database."""
    database: StoreBackend = request.getfixturevalue(f"{request.param}_place")
    return database
