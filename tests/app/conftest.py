"""Fixtures: stores on both databases, and an upstream that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.nginx import Nginx
from support.postgres import Postgres
from support.stores import PostgresBackend, SqliteBackend, StoreBackend


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StoreBackend:
    """Return an empty database."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    postgres: Postgres = request.getfixturevalue("postgres")
    return PostgresBackend(postgres, asyncio.run(postgres.schema()))


@pytest.fixture
def store_settings(place: StoreBackend, tmp_path: Path) -> str:
    """Return the settings of a store in this database."""
    if not isinstance(place, PostgresBackend):
        return "path: store.db"
    (tmp_path / "store-url").write_text(place.postgres.url(place.schema))
    return f"url: {{file: {tmp_path}/store-url}}"


@pytest.fixture
def in_postgres(postgres: Postgres, tmp_path: Path) -> str:
    """Return the settings of an empty store on PostgreSQL."""
    (tmp_path / "store-url").write_text(postgres.url(asyncio.run(postgres.schema())))
    return f"url: {{file: {tmp_path}/store-url}}"


@pytest.fixture
def echo_port(tmp_path: Path) -> Iterator[int]:
    """Return the port of an upstream that echoes."""
    with Nginx(tmp_path) as nginx:
        yield nginx.port
