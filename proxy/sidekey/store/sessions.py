"""Sessions of the console. A session belongs to the operator's token or the company identity that logged in.

A session has an HMAC, so write access to the database is not enough to create one. A restored session keeps its end,
and ends earlier if the operator's token becomes invalid or the rules of the company log-in change.
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

_TAG_DIGITS: Final = 32
PAGE: Final = 50
"""Maximum number of sessions in a page."""

PUBLIC_ID_LENGTH: Final = 32
"""Hexadecimal digits of a session's ID that the console shows: half of the ID."""

_SELECT: Final = 'SELECT id, token_sha256, begun_at, auth_at, ends_at, grant_text, "key", mac FROM sidekey_sessions'


@dataclass(frozen=True, slots=True)
class Session:
    """One session. `id` is the SHA-256 of the cookie's random part, `token_sha256` that of the operator's token.

    Both are in hexadecimal. For a company log-in, `token_sha256` is an HMAC of the identity. `auth_at` is when the
    operator last proved who they are. Times are in seconds since the epoch. `grant_text` has the role and
    presets from the claims of a company log-in, and is empty if the operator's token decides.
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


def new_cookie(authenticator: RowAuthenticator) -> NewCookie:
    """Generate a cookie. Its HMAC keeps random cookies away from the database."""
    random, key = secrets.token_urlsafe(32), authenticator.ring.first
    return NewCookie(f"{random}.{key}.{authenticator.mac(key, _COOKIE_INFO, random)[:_TAG_DIGITS]}", digest_of(random))


def session_id(authenticator: RowAuthenticator, cookie: str) -> str | None:
    """Return the ID of a cookie's session, or None if Sidekey did not make the cookie or lacks its key."""
    match = _COOKIE.fullmatch(cookie)
    if match is None:
        return None
    random, key, tag = match.groups()
    if key not in authenticator.ring or not hmac.compare_digest(
        authenticator.mac(key, _COOKIE_INFO, random)[:_TAG_DIGITS], tag
    ):
        return None
    return digest_of(random)


def identity_digest(authenticator: RowAuthenticator, identity: str) -> str:
    """Return the HMAC of an identity, which replaces the SHA-256 of a token in its sessions."""
    return authenticator.mac(authenticator.ring.first, _IDENTITY_INFO, identity)


async def begin(transaction: Transaction, authenticator: RowAuthenticator, session: Session) -> None:
    """Store a session. Delete sessions that have ended, and the oldest of its token if there are too many."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE ends_at <= $1", int(await transaction.now()))
    older = await transaction.fetch(
        "SELECT id FROM sidekey_sessions WHERE token_sha256 = $1 ORDER BY begun_at DESC, ends_at DESC",
        session.token_sha256,
    )
    for (oldest,) in older[MAX_SESSIONS - 1 :]:
        await end(transaction, as_text(oldest))
    await _put(transaction, authenticator, session)


async def find(transaction: Transaction, authenticator: RowAuthenticator, session_id: str) -> Session | None:
    """Return the session with this ID, or None if it does not exist, has ended, or was altered."""
    rows = await transaction.fetch(f"{_SELECT} WHERE id = $1", session_id)
    session = _verify(authenticator, rows[0]) if rows else None
    return None if session is None or session.ends_at <= await transaction.now() else session


async def end(transaction: Transaction, session_id: str) -> None:
    """Delete the session with this ID."""
    await transaction.execute("DELETE FROM sidekey_sessions WHERE id = $1", session_id)


async def page(transaction: Transaction, authenticator: RowAuthenticator, before: Position) -> SessionPage:
    """Return the sessions that began before this time and ID, without those that were altered."""
    rows = await transaction.fetch(
        f"{_SELECT} WHERE (begun_at < $1 OR begun_at = $1 AND id < $2) AND ends_at > $3 "
        "ORDER BY begun_at DESC, id DESC LIMIT $4",
        *before,
        int(await transaction.now()),
        PAGE + 1,
    )
    sessions = tuple(session for row in rows[:PAGE] if (session := _verify(authenticator, row)) is not None)
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return SessionPage(sessions, None if last is None else (as_number(last[2]), as_text(last[0])))


async def find_by_prefix(transaction: Transaction, authenticator: RowAuthenticator, prefix: str) -> Session | None:
    """Return the session with this prefix of its ID, or None if it does not exist, has ended, or was altered."""
    rows = await transaction.fetch("SELECT id FROM sidekey_sessions WHERE id >= $1 ORDER BY id LIMIT 1", prefix)
    name = as_text(rows[0][0]) if rows else ""
    return await find(transaction, authenticator, name) if name.startswith(prefix) else None


async def renew_macs(transaction: Transaction, authenticator: RowAuthenticator) -> None:
    """Renew all MACs with the first key, and delete altered sessions."""
    for row in await transaction.fetch(_SELECT):
        session = _verify(authenticator, row)
        if session is None:
            await end(transaction, as_text(row[0]))
        elif row[6] != authenticator.ring.first:
            await _put(transaction, authenticator, session)


async def _put(transaction: Transaction, authenticator: RowAuthenticator, session: Session) -> None:
    first = authenticator.ring.first
    await transaction.execute(
        "INSERT INTO sidekey_sessions VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
        'ON CONFLICT (id) DO UPDATE SET "key" = excluded."key", mac = excluded.mac',
        *astuple(session),
        first,
        authenticator.mac(first, _INFO, session.text(first)),
    )


def _verify(authenticator: RowAuthenticator, row: tuple[Any, ...]) -> Session | None:
    """Return the session in a row, or None if its MAC is not valid."""
    name, token, begun_at, auth_at, ends_at, grant, key, mac = row
    session = Session(
        as_text(name), as_text(token), as_number(begun_at), as_number(auth_at), as_number(ends_at), as_text(grant)
    )
    return session if authenticator.is_mac(as_text(key), _INFO, session.text(as_text(key)), as_text(mac)) else None
