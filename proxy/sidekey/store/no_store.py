"""The replacement for `Store` in a process without a store. It has only sessions of the console."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Final

from sidekey.store import sessions
from sidekey.store.audit import MATCH_ALL, AuditEntry, AuditFilter, AuditPage
from sidekey.store.integrity import RowAuthenticator
from sidekey.store.sealing import KEY_BYTES, KeyRing
from sidekey.store.sends import Send, SendPage
from sidekey.store.sessions import MAX_SESSIONS, PAGE, NewCookie, Position, Session, SessionPage
from sidekey.store.state import State
from sidekey.store.store import Health

_MAX_SESSIONS: Final = 1000


class AbsentStore:
    """An empty store that keeps sessions only, until the process ends."""

    def __init__(self) -> None:
        self._authenticator = RowAuthenticator(KeyRing({"process": secrets.token_bytes(KEY_BYTES)}), "")
        self._sessions: dict[str, Session] = {}
        self.state: Final = State()
        self.health: Final = Health(up=True)

    async def refresh(self) -> State:
        """Return the state, which is empty."""
        return self.state

    async def last_uses(self) -> Mapping[str, int]:
        """Return an empty mapping: there are no rows."""
        return {}

    async def record_use(self, row_id: str) -> None:
        """Do nothing: there are no rows."""
        del row_id

    async def audit(self, entry: AuditEntry, previous: tuple[int, AuditEntry] | None = None) -> int:
        """Do nothing: the audit is in the store."""
        del entry, previous
        return 0

    async def audit_page(
        self, *, before: int | None = None, row_id: str | None = None, audit_filter: AuditFilter = MATCH_ALL
    ) -> AuditPage:
        """Return an empty page."""
        del before, row_id, audit_filter
        return AuditPage((), None)

    async def get_send(self, identity: str, key: str) -> Send | None:
        """Return None: there are no sends."""
        del identity, key
        return None

    async def send_page(
        self, *, identity: str = "", preset: str = "", who: str = "", before: int | None = None
    ) -> SendPage:
        """Return an empty page."""
        del identity, preset, who, before
        return SendPage((), None)

    async def get_batch(self, batch: str) -> tuple[Send, ...]:
        """Return no sends."""
        del batch
        return ()

    def new_cookie(self) -> NewCookie:
        """Generate the cookie of a new session."""
        return sessions.new_cookie(self._authenticator)

    def session_id(self, cookie: str) -> str | None:
        """Return the ID of a cookie's session, or None if this process did not make the cookie."""
        return sessions.session_id(self._authenticator, cookie)

    def identity_digest(self, identity: str) -> str:
        """Return the digest of a company log-in's identity, for its sessions."""
        return sessions.identity_digest(self._authenticator, identity)

    async def log_in(self, session: Session, entry: AuditEntry | None, previous: str | None = None) -> None:
        """Keep a session. It replaces the `previous` one, and the oldest if there are too many."""
        del entry
        if previous is not None:
            self._sessions.pop(previous, None)
        now = time.time()
        self._sessions = {session_id: stored for session_id, stored in self._sessions.items() if stored.ends_at > now}
        of_token = [stored.id for stored in self._sessions.values() if stored.token_sha256 == session.token_sha256]
        if len(of_token) >= MAX_SESSIONS:
            del self._sessions[of_token[0]]
        if len(self._sessions) >= _MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session.id] = session

    async def get_session(self, session_id: str) -> Session | None:
        """Return the session with this ID, or None if it does not exist or has ended."""
        stored = self._sessions.get(session_id)
        return None if stored is None or stored.ends_at <= time.time() else stored

    async def find_session_by_prefix(self, prefix: str) -> Session | None:
        """Return the session with this prefix of its ID, which the console shows, or None."""
        name = next((name for name in self._sessions if name.startswith(prefix)), "")
        return await self.get_session(name)

    async def session_page(self, before: Position) -> SessionPage:
        """Return the sessions that began before this time and ID."""
        now = time.time()
        active = {
            (session.begun_at, session.id): session for session in self._sessions.values() if session.ends_at > now
        }
        positions = sorted((position for position in active if position < before), reverse=True)
        last = positions[PAGE - 1] if len(positions) > PAGE else None
        return SessionPage(tuple(active[position] for position in positions[:PAGE]), last)

    async def log_out(self, session: str, entry: AuditEntry | None = None) -> None:
        """End a session."""
        del entry
        self._sessions.pop(session, None)
