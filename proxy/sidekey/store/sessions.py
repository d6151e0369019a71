"""Sessions of the console. Each belongs to the operator's token, or the person of the company, that logged in.

A session has an HMAC, so write access to the database is not enough to make one. A restored session ends when it would
have ended, and at the latest when the operator's token becomes invalid or the rules of the company log-in change.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import astuple, dataclass, field
from typing import Any, Final, NamedTuple

from sidekey.store.canonical_json import canonical
from sidekey.store.database import Transaction, as_number, as_text
from sidekey.store.integrity import RowAuthenticator
from sidekey.store.records import digest_of

TABLES: Final = (
    "CREATE TABLE sidekey_sessions (id TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL, begun_at BIGINT NOT NULL, "
    "auth_at BIGINT NOT NULL, ends_at BIGINT NOT NULL, grant_text TEXT NOT NULL, "
    '"key" TEXT NOT NULL, mac TEXT NOT NULL)',
    "CREATE INDEX sidekey_sessions_token ON sidekey_sessions (token_sha256, ends_at)",
)

MAX_SESSIONS: Final = 20
"""Maximum number of sessions of one token. A further login ends the oldest."""

_INFO: Final = b"sidekey session v2"
_COOKIE_INFO: Final = b"sidekey cookie v1"
_IDENTITY_INFO: Final = b"sidekey oidc identity v1"
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([a-z0-9][a-z0-9_-]{0,62})\.([0-9a-f]{32})")
"""32 random bytes, the ID of a store key, and half an HMAC."""

_TAG: Final = 32
PAGE: Final = 50
"""Maximum number of sessions in a page."""

SHOWN: Final = 32
"""Hexadecimal digits of a session's ID that people see: half of them."""

_SELECT: Final = 'SELECT id, token_sha256, begun_at, auth_at, ends_at, grant_text, "key", mac FROM sidekey_sessions'


@dataclass(frozen=True, slots=True)
class Session:
    """One session. `id` is the SHA-256 of the cookie's random part, `token_sha256` that of the operator's token.

    Both are in hexadecimal. For a company log-in, `token_sha256` is an HMAC of the identity. `auth_at` is when the
    operator last proved who they are. Times are in seconds since the epoch. `grant_text` is what the claims of a
    company log-in gave, and empty if the operator's token decides what the session may do.
    """

    id: str = field(repr=False)
    token_sha256: str = field(repr=False)
    begun_at: int
    auth_at: int
    ends_at: int
    grant_text: str = ""

    def text(self, key: str) -> str:
        """Serialize the session for its MAC."""
        return canonical([*astuple(self), key])


Position = tuple[int, str]
"""When a session began, and its ID."""


class SessionPage(NamedTuple):
    """Sessions, newest first. `next` is the position of the last one, if there are more.

    A page may be empty and have a `next`, if its sessions were altered.
    """

    sessions: tuple[Session, ...]
    next: Position | None


class NewCookie(NamedTuple):
    """The value of a new session's cookie, and the ID of the session."""

    value: str
    session: str


def new_cookie(seals: RowAuthenticator) -> NewCookie:
    """Make a cookie. Its HMAC keeps random cookies away from the database."""
    random, key = secrets.token_urlsafe(32), seals.ring.first
    return NewCookie(f"{random}.{key}.{seals.mac(key, _COOKIE_INFO, random)[:_TAG]}", digest_of(random))


def id_in(seals: RowAuthenticator, cookie: str) -> str | None:
    """Return the ID of a cookie's session, or None if Sidekey did not make the cookie or lacks its key."""
    found = _COOKIE.fullmatch(cookie)
    if found is None:
        return None
    random, key, tag = found.groups()
    if key not in seals.ring or not hmac.compare_digest(seals.mac(key, _COOKIE_INFO, random)[:_TAG], tag):
        return None
    return digest_of(random)


def digest_of_identity(seals: RowAuthenticator, identity: str) -> str:
    """Return what a session has in place of the SHA-256 of a token."""
    return seals.mac(seals.ring.first, _IDENTITY_INFO, identity)


async def begin(transaction: Transaction, seals: RowAuthenticator, session: Session) -> None:
    """Store a session. Delete sessions that have ended, and the oldest of its token if there are too many."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE ends_at <= $1", int(await transaction.now()))
    older = await transaction.fetch(
        "SELECT id FROM sidekey_sessions WHERE token_sha256 = $1 ORDER BY begun_at DESC, ends_at DESC",
        session.token_sha256,
    )
    for (found,) in older[MAX_SESSIONS - 1 :]:
        await end(transaction, as_text(found))
    await _put(transaction, seals, session)


async def find(transaction: Transaction, seals: RowAuthenticator, session: str) -> Session | None:
    """Return the session with this ID, or None if it does not exist, has ended, or was altered."""
    rows = await transaction.fetch(f"{_SELECT} WHERE id = $1", session)
    found = _intact(seals, rows[0]) if rows else None
    return None if found is None or found.ends_at <= await transaction.now() else found


async def end(transaction: Transaction, session: str) -> None:
    """Delete the session with this ID."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE id = $1", session)


async def page(transaction: Transaction, seals: RowAuthenticator, before: Position) -> SessionPage:
    """Return the sessions that began before this time and ID, without those that were altered."""
    rows = await transaction.fetch(
        f"{_SELECT} WHERE (begun_at < $1 OR begun_at = $1 AND id < $2) AND ends_at > $3 "
        "ORDER BY begun_at DESC, id DESC LIMIT $4",
        *before,
        int(await transaction.now()),
        PAGE + 1,
    )
    sessions = tuple(found for row in rows[:PAGE] if (found := _intact(seals, row)) is not None)
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return SessionPage(sessions, None if last is None else (as_number(last[2]), as_text(last[0])))


async def find_shown(transaction: Transaction, seals: RowAuthenticator, shown: str) -> Session | None:
    """Return the session whose ID begins with this, or None if it does not exist, has ended, or was altered."""
    rows = await transaction.fetch("SELECT id FROM sidekey_sessions WHERE id >= $1 ORDER BY id LIMIT 1", shown)
    found = as_text(rows[0][0]) if rows else ""
    return await find(transaction, seals, found) if found.startswith(shown) else None


async def sign_again(transaction: Transaction, seals: RowAuthenticator) -> None:
    """Make all MACs with the first key, and delete altered sessions."""
    for row in await transaction.fetch(_SELECT):
        found = _intact(seals, row)
        if found is None:
            await end(transaction, as_text(row[0]))
        elif row[6] != seals.ring.first:
            await _put(transaction, seals, found)


async def _put(transaction: Transaction, seals: RowAuthenticator, session: Session) -> None:
    first = seals.ring.first
    await transaction.execute(
        "INSERT INTO sidekey_sessions VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
        'ON CONFLICT (id) DO UPDATE SET "key" = excluded."key", mac = excluded.mac',
        *astuple(session),
        first,
        seals.mac(first, _INFO, session.text(first)),
    )


def _intact(seals: RowAuthenticator, row: tuple[Any, ...]) -> Session | None:
    """Return the session of a row, or None if its MAC is not valid."""
    name, token, begun_at, auth_at, ends_at, grant, key, mac = row
    found = Session(
        as_text(name), as_text(token), as_number(begun_at), as_number(auth_at), as_number(ends_at), as_text(grant)
    )
    return found if seals.bears(as_text(key), _INFO, found.text(as_text(key)), as_text(mac)) else None
