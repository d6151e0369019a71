"""Stores for tests, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

from sidekey.snapshot.store import StoreRules
from sidekey.store.audit import AuditEntry
from sidekey.store.database import Database
from sidekey.store.open import select_database
from sidekey.store.records import IntegrationRow, SealedField, new_row_id
from sidekey.store.sealing import Binding, KeyRing, Purpose, seal
from sidekey.store.store import Store
from support.postgres import Postgres

KEYS: Final = {"k1": bytes(range(32))}
RING: Final = KeyRing(KEYS)
ENTRY: Final = AuditEntry(who="ops", action="test")
TABLES: Final = ("store", "keys", "rows", "audit", "uses", "leases", "sessions", "sends")

PINNED: Final = IntegrationRow(
    row_id="1" * 32,
    id="crm",
    version=3,
    document='{"auth":{"type":"basic"}}',
    secrets={"s_1": SealedField("1:k1:AA", 7, "ops")},
    created_at=5,
    updated_at=6,
    updated_by="ops",
)
"""A row whose bytes tests pin."""

Rows = dict[str, Sequence[Sequence[Any]]]


class StoreBackend(ABC):
    """An empty database. `sql` executes statements as its administrator."""

    @abstractmethod
    def rules(self, keys: dict[str, bytes] | None = None) -> StoreRules:
        """Return the store settings."""

    @abstractmethod
    async def all(self, statements: Sequence[str]) -> list[Sequence[Sequence[Any]]]:
        """Execute statements on a connection of their own, and return the rows of each."""

    async def sql(self, statement: str) -> Sequence[Sequence[Any]]:
        """Execute a statement on a connection of its own, and return its rows."""
        (rows,) = await self.all([statement])
        return rows

    def database(self) -> Database:
        """Return the database, without connecting to it."""
        return select_database(self.rules())

    @asynccontextmanager
    async def open(
        self, keys: dict[str, bytes] | None = None, *, retention: float = 1000.0, create: bool = True
    ) -> AsyncIterator[Store]:
        """Open a store for the block."""
        ring = KeyRing(keys or KEYS)
        store = await Store.open(self.database(), ring, retention=retention, create=create)
        try:
            yield store
        finally:
            await store.close()

    async def backup(self) -> Rows:
        """Return the content of the tables."""
        tables = await self.all([f"SELECT * FROM sidekey_{table}" for table in TABLES])
        return dict(zip(TABLES, tables, strict=True))

    async def restore(self, rows: Rows) -> None:
        """Replace the content of the tables."""
        statements = []
        for table, rows_of_table in rows.items():
            statements.append(f"DELETE FROM sidekey_{table}")
            for row in rows_of_table:
                values = ", ".join("'{}'".format(str(value).replace("'", "''")) for value in row)
                statements.append(f"INSERT INTO sidekey_{table} VALUES ({values})")
        await self.all(statements)


class SqliteBackend(StoreBackend):
    """A SQLite file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"

    def rules(self, keys: dict[str, bytes] | None = None) -> StoreRules:
        return StoreRules(self.path, None, tuple((keys or KEYS).items()), 1000.0)

    async def all(self, statements: Sequence[str]) -> list[Sequence[Sequence[Any]]]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return [connection.execute(statement).fetchall() for statement in statements]


class PostgresBackend(StoreBackend):
    """A schema of a PostgreSQL server."""

    def __init__(self, postgres: Postgres, schema: str) -> None:
        self.postgres = postgres
        self.schema = schema

    def rules(self, keys: dict[str, bytes] | None = None) -> StoreRules:
        return StoreRules(None, self.postgres.url(self.schema), tuple((keys or KEYS).items()), 1000.0)

    async def all(self, statements: Sequence[str]) -> list[Sequence[Sequence[Any]]]:
        return await self.postgres.all(statements, self.schema)


def fail_on_defect(defect: BaseException) -> None:
    """Fail on the report of a defect."""
    raise AssertionError("a defect was reported") from defect


def integration(name: str, document: str = "{}", *, row: str = "", **more: Any) -> IntegrationRow:
    """Build a new integration."""
    return IntegrationRow(row_id=row or new_row_id(), id=name, document=document, **more)


SECRET: Final = "s_0123456789abcdef"
PLACE: Final = {"written": [["auth", "password"]]}


def purpose_of(row: IntegrationRow) -> Purpose:
    """Return the purpose of secrets in these tests: the document, with a prefix."""
    return Purpose({SECRET: PLACE}, ({"to": "elsewhere"}, {"to": row.document}))


def sealed(store: Store, name: str, text: str, document: str = "{}", *, row: str = "") -> IntegrationRow:
    """Build an integration with a secret that is bound to the purpose from `purpose_of`."""
    row = row or new_row_id()
    binding = Binding(store.id, row, name, SECRET, {"to": document}, PLACE)
    secrets = {SECRET: SealedField(seal(store.ring, text, binding), 1, "ops")}
    return integration(name, document, row=row, secrets=secrets)
