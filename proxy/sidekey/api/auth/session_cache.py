"""Cache of console sessions by cookie, in front of the store."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, NamedTuple

from sidekey.store.audit import AuditEntry
from sidekey.store.errors import StoreDenied, StoreError
from sidekey.store.no_store import AbsentStore
from sidekey.store.sessions import Session
from sidekey.store.store import Store

_CACHE_LIFETIME: Final = 1.0
"""Seconds for which a cached session is valid without a read of the store."""

_MAX_CACHED: Final = 1000


class _Cached(NamedTuple):
    session: Session
    read_at: float


class SessionCache:
    """Finds and ends sessions. While the store is unavailable, cached sessions stay in use."""

    def __init__(self, store: Store | AbsentStore) -> None:
        self._store = store
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        self._evictions = 0

    async def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None if it has none. Raises StoreError."""
        name = self._store.session_id(cookie)
        if name is None:
            return None
        cached = self._cached.get(name)
        if cached is not None and (time.monotonic() - cached.read_at < _CACHE_LIFETIME or not self._store.health.up):
            session: Session | None = cached.session
        else:
            session = await self._read(name)
        return None if session is None or session.ends_at <= time.time() else session

    async def _read(self, name: str) -> Session | None:
        evictions = self._evictions
        try:
            session = await self._store.get_session(name)
        except StoreDenied:
            raise
        except StoreError:
            cached = self._cached.get(name)
            if cached is None:
                raise
            return cached.session
        if session is None:
            self._cached.pop(name, None)
        elif evictions == self._evictions:
            # Otherwise the session may have ended after this read began.
            self._cache(session)
        return session

    async def begin(self, session: Session, entry: AuditEntry | None, previous_cookie: str) -> None:
        """Store a session with an audit entry, if any. End the session of the previous cookie. Raises StoreError."""
        previous = self._store.session_id(previous_cookie)
        await self._store.log_in(session, entry, previous)
        if previous is not None:
            self._evict(previous)
        self._cache(session)

    async def end(self, name: str, entry: AuditEntry | None = None) -> None:
        """End the session with this ID, with an audit entry, if any. Raises StoreError."""
        # Before and after: a concurrent read must not put the session back.
        self._evict(name)
        await self._store.log_out(name, entry)
        self._evict(name)

    def _cache(self, session: Session) -> None:
        self._cached[session.id] = _Cached(session, time.monotonic())
        self._cached.move_to_end(session.id)
        if len(self._cached) > _MAX_CACHED:
            self._cached.popitem(last=False)

    def _evict(self, name: str) -> None:
        self._cached.pop(name, None)
        self._evictions += 1
