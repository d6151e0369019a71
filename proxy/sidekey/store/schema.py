"""The tables: numbered migrations, the same statements for every database, done at start in one transaction.

Every name has the prefix `sidekey_`, for a database that holds other things too. What is random, a MAC or a digest is
text in hexadecimal, what is sealed is text, times are whole seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

from sidekey.store.database import Transaction
from sidekey.store.errors import StoreRefused

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE sidekey_store (id TEXT PRIMARY KEY)",
        # Which keys the store is written with, and what proves that a ring has the very same.
        'CREATE TABLE sidekey_keys ("key" TEXT PRIMARY KEY, proof TEXT NOT NULL)',
        "CREATE TABLE sidekey_head (one BIGINT PRIMARY KEY, epoch BIGINT NOT NULL, revision BIGINT NOT NULL, "
        'digest TEXT NOT NULL, "key" TEXT NOT NULL, mac TEXT NOT NULL)',
        # `revision` is the head's when the row was written last: what is newer than that is read, and nothing else.
        "CREATE TABLE sidekey_rows (kind TEXT NOT NULL, id TEXT NOT NULL, row_id TEXT PRIMARY KEY, "
        'version BIGINT NOT NULL, revision BIGINT NOT NULL, "key" TEXT NOT NULL, mac TEXT NOT NULL, '
        "body TEXT NOT NULL, UNIQUE (kind, id))",
        "CREATE INDEX sidekey_rows_revision ON sidekey_rows (revision)",
        "CREATE TABLE sidekey_audit (seq BIGINT PRIMARY KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, "
        "row_id TEXT NOT NULL, entry TEXT NOT NULL)",
        "CREATE INDEX sidekey_audit_at ON sidekey_audit (at)",
        "CREATE INDEX sidekey_audit_row ON sidekey_audit (row_id, seq)",
        # Outside the head: they change too often, and decide nothing by themselves.
        "CREATE TABLE sidekey_uses (row_id TEXT PRIMARY KEY, at BIGINT NOT NULL)",
        "CREATE TABLE sidekey_leases (name TEXT NOT NULL, chain TEXT NOT NULL, fence BIGINT NOT NULL, "
        "until BIGINT NOT NULL, stage TEXT NOT NULL, rotates BIGINT NOT NULL, spent BIGINT NOT NULL, "
        'lineage TEXT NOT NULL, result TEXT NOT NULL, "key" TEXT NOT NULL, mac TEXT NOT NULL, '
        "PRIMARY KEY (name, chain))",
    ),
    (
        "CREATE TABLE sidekey_sessions (id TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL, ends_at BIGINT NOT NULL, "
        '"key" TEXT NOT NULL, mac TEXT NOT NULL)',
        "CREATE INDEX sidekey_sessions_token ON sidekey_sessions (token_sha256, ends_at)",
    ),
)
"""Each brings the tables from one version of the schema to the next; none is ever edited once it was released."""


async def migrate(
    transaction: Transaction, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS, *, create: bool = True
) -> None:
    """Bring the tables to the newest version; the caller's transaction is the lock. Raises StoreRefused.

    Without `create` it is an error where there are no tables at all.
    """
    await transaction.execute("CREATE TABLE IF NOT EXISTS sidekey_schema (version BIGINT PRIMARY KEY)")
    found = await transaction.fetch("SELECT max(version) FROM sidekey_schema")
    version = int(found[0][0] or 0)
    if not version and not create:
        raise StoreRefused("there is no store yet: sidekey run makes it")
    if version > len(migrations):
        raise StoreRefused(
            f"the store has schema {version}, and this Sidekey knows {len(migrations)} at most: run a newer Sidekey"
        )
    for number, statements in enumerate(migrations[version:], version + 1):
        for statement in statements:
            await transaction.execute(statement)
        await transaction.execute("INSERT INTO sidekey_schema (version) VALUES ($1)", number)
