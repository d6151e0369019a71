"""Sessions of the console. Each belongs to the operator's token that logged in.

A session has an HMAC, so write access to the database is not enough to make one. A restored session ends when it would
have ended, and at the latest when the operator's token becomes invalid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from sidekey.store.canonical import canonical
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.integrity import Seals

TABLES: Final = (
    "CREATE TABLE sidekey_sessions (id TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL, ends_at BIGINT NOT NULL, "
    '"key" TEXT NOT NULL, mac TEXT NOT NULL)',
    "CREATE INDEX sidekey_sessions_token ON sidekey_sessions (token_sha256, ends_at)",
)

MOST: Final = 20
"""Maximum number of sessions of one token. A further login ends the oldest."""

_INFO: Final = b"sidekey session v1"
_SELECT: Final = 'SELECT id, token_sha256, ends_at, "key", mac FROM sidekey_sessions'


@dataclass(frozen=True, slots=True)
class Session:
    """One session. `id` is the SHA-256 of the cookie's secret, `token_sha256` that of the operator's token.

    Both are in hexadecimal. `ends_at` is in seconds since the epoch.
    """

    id: str = field(repr=False)
    token_sha256: str = field(repr=False)
    ends_at: int

    def text(self, key: str) -> str:
        """Serialize the session for its MAC."""
        return canonical([self.id, self.token_sha256, self.ends_at, key])


async def begin(transaction: Transaction, seals: Seals, session: Session) -> None:
    """Store a session. Delete sessions that have ended, and the oldest of its token if there are too many."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE ends_at <= $1", int(await transaction.now()))
    older = await transaction.fetch(
        "SELECT id FROM sidekey_sessions WHERE token_sha256 = $1 ORDER BY ends_at DESC", session.token_sha256
    )
    for (found,) in older[MOST - 1 :]:
        await end(transaction, as_text(found))
    await _put(transaction, seals, session)


async def find(transaction: Transaction, seals: Seals, session: str) -> Session | None:
    """Return the session with this ID, or None if it does not exist, has ended, or was altered."""
    rows = await transaction.fetch(f"{_SELECT} WHERE id = $1", session)
    found = _intact(seals, rows[0]) if rows else None
    return None if found is None or found.ends_at <= await transaction.now() else found


async def end(transaction: Transaction, session: str) -> None:
    """Delete the session with this ID."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE id = $1", session)


async def sign_again(transaction: Transaction, seals: Seals) -> None:
    """Make all MACs with the first key, and delete altered sessions."""
    for row in await transaction.fetch(_SELECT):
        found = _intact(seals, row)
        if found is None:
            await end(transaction, as_text(row[0]))
        elif row[3] != seals.ring.first:
            await _put(transaction, seals, found)


async def _put(transaction: Transaction, seals: Seals, session: Session) -> None:
    first = seals.ring.first
    await transaction.execute(
        'INSERT INTO sidekey_sessions (id, token_sha256, ends_at, "key", mac) VALUES ($1, $2, $3, $4, $5) '
        'ON CONFLICT (id) DO UPDATE SET "key" = excluded."key", mac = excluded.mac',
        session.id,
        session.token_sha256,
        session.ends_at,
        first,
        seals.mac(first, _INFO, session.text(first)),
    )


def _intact(seals: Seals, row: tuple[Any, ...]) -> Session | None:
    """Return the session of a row, or None if its MAC is not valid."""
    name, token, ends_at, key, mac = row
    found = Session(as_text(name), as_text(token), as_number(ends_at))
    return found if seals.bears(as_text(key), _INFO, found.text(as_text(key)), as_text(mac)) else None
