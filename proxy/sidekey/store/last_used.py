"""The last use of each row. It has no MAC, because it grants nothing."""

from __future__ import annotations

from collections.abc import Mapping

from sidekey.store.database import Transaction, as_number, as_text


async def record(transaction: Transaction, row_id: str) -> None:
    """Record that a row is used now."""
    await transaction.execute(
        "INSERT INTO sidekey_uses (row_id, at) VALUES ($1, $2) ON CONFLICT (row_id) DO UPDATE SET at = excluded.at",
        row_id,
        int(await transaction.now()),
    )


async def read(transaction: Transaction) -> Mapping[str, int]:
    """Return the last use of each row, in seconds since the epoch."""
    rows = await transaction.fetch("SELECT row_id, at FROM sidekey_uses")
    return {as_text(row_id): as_number(at) for row_id, at in rows}
