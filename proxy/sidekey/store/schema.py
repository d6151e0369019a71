"""The tables: the same statements for every database, executed once, by the first process that opens the store.

Every name has the prefix `sidekey_`, for a database that holds other things too. Random values, MACs and digests are
text in hexadecimal, sealed values are text, times are whole seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

from sidekey.store import failures, sends, sessions, usage
from sidekey.store.database import Transaction, as_number
from sidekey.store.errors import StoreRefused

VERSION: Final = 1  # the last statement writes it

_BASE: Final = (
    "CREATE TABLE sidekey_schema (version BIGINT PRIMARY KEY)",
    "CREATE TABLE sidekey_store (id TEXT PRIMARY KEY)",
    # The keys that the store is written with, each with a proof that a ring has the same one.
    'CREATE TABLE sidekey_keys ("key" TEXT PRIMARY KEY, proof TEXT NOT NULL)',
    # `revision` numbers the changes: a process reads the rows above the last one that it knows. A deleted row stays,
    # with an empty body.
    "CREATE TABLE sidekey_rows (kind TEXT NOT NULL, id TEXT NOT NULL, row_id TEXT NOT NULL, "
    'version BIGINT NOT NULL, revision BIGINT NOT NULL, "key" TEXT NOT NULL, mac TEXT NOT NULL, '
    "body TEXT NOT NULL, PRIMARY KEY (kind, id))",
    "CREATE INDEX sidekey_rows_revision ON sidekey_rows (revision)",
    "CREATE TABLE sidekey_audit (seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, "
    "row_id TEXT NOT NULL, who TEXT NOT NULL, label TEXT NOT NULL, entry TEXT NOT NULL)",
    "CREATE INDEX sidekey_audit_at ON sidekey_audit (at)",
    "CREATE INDEX sidekey_audit_row ON sidekey_audit (row_id, seq)",
    "CREATE TABLE sidekey_uses (row_id TEXT PRIMARY KEY, at BIGINT NOT NULL)",
    "CREATE TABLE sidekey_leases (name TEXT NOT NULL, chain TEXT NOT NULL, fence BIGINT NOT NULL, "
    "until BIGINT NOT NULL, stage TEXT NOT NULL, spent BIGINT NOT NULL, "
    'lineage TEXT NOT NULL, result TEXT NOT NULL, "key" TEXT NOT NULL, mac TEXT NOT NULL, '
    "PRIMARY KEY (name, chain))",
)

_TABLES: Final = (
    *_BASE,
    *sessions.TABLES,
    *sends.TABLES,
    *usage.TABLES,
    *failures.TABLES,
    "INSERT INTO sidekey_schema (version) VALUES (1)",
)


async def find_tables(transaction: Transaction) -> bool:
    """Return True if there are tables of this version, False if there are none. Raises StoreRefused."""
    if not await transaction.has_table("sidekey_schema"):
        return False
    ((version,),) = await transaction.fetch("SELECT max(version) FROM sidekey_schema")
    if as_number(version) > VERSION:
        raise StoreRefused(
            f"the store has schema {version}, and this Sidekey knows {VERSION} at most: run a newer Sidekey"
        )
    if version != VERSION:
        raise StoreRefused("the store has lost its version: restore a backup that has all tables")
    return True


async def create_tables(transaction: Transaction) -> None:
    """Create the tables. The caller's transaction is the lock."""
    for statement in _TABLES:
        await transaction.execute(statement)
