"""Opens the store that the config describes."""

from __future__ import annotations

from sidekey.snapshot.store import StoreRules
from sidekey.store.database import Database
from sidekey.store.sealing import KeyRing
from sidekey.store.sqlite import SqliteDatabase
from sidekey.store.store import Store


def select_database(rules: StoreRules) -> Database:
    """Return the database, without connecting to it."""
    if rules.path is not None:
        return SqliteDatabase(rules.path)
    # asyncpg comes with the extra `postgres`, which only a URL requires.
    from sidekey.store.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(rules.url or "")


async def open_store(rules: StoreRules, *, create: bool = True) -> Store:
    """Open the store; see `Store.open`. Raises StoreUnavailable, StoreRefused."""
    ring = KeyRing(dict(rules.keys))
    return await Store.open(select_database(rules), ring, retention=rules.audit, history=rules.history, create=create)


async def start_store(rules: StoreRules) -> Store:
    """Open the store of a process that serves; see `Store.start`. Raises StoreUnusable, StoreRefused."""
    ring = KeyRing(dict(rules.keys))
    return await Store.start(select_database(rules), ring, retention=rules.audit, history=rules.history)
