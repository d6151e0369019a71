"""Who is logged in to the console, by a cookie; kept in the store, so that every process knows them."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sidekey.admin.api.operators import Operator
from sidekey.admin.api.problems import ApiProblem
from sidekey.admin.api.service import Service
from sidekey.admin.sessions import LIFE
from sidekey.store.errors import StoreError
from sidekey.store.sessions import Session
from sidekey.store.tokens import digest_of

_MOST_SEEN: Final = 1000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in. `secret` is what their browser keeps; `reachable`: the store could be asked for it."""

    operator: Operator
    secret: str = field(repr=False)
    reachable: bool = True


class Sessions:
    """The sessions of all browsers, as this process knows them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: OrderedDict[str, Session] = OrderedDict()

    async def log_in(self, token: str, source: str) -> str | None:
        """Begin a session with an operator's token and return the secret for its cookie, or None if it is not valid.

        Nothing limits attempts: a token has 256 random bits. Raises StoreError.
        """
        await self._service.look_for(token)
        digest = digest_of(token)
        operator = self._service.operator(digest)
        self._service.count_login("ok" if isinstance(operator, Operator) else operator)
        if not isinstance(operator, Operator):
            return None
        if not operator.may("viewer"):
            raise ApiProblem("forbidden", "Open /ui/ to send.")
        secret = secrets.token_urlsafe(32)
        now = int(time.time())
        ends_at = min(now + LIFE, operator.expires_at or now + LIFE)
        session = Session(digest_of(secret), digest, begun_at=now, auth_at=now, ends_at=ends_at)
        await self._service.log_in(operator, session, source)
        self._see(session)
        return secret

    async def visitor(self, secret: str) -> Visitor | None:
        """Who has this secret; None: nobody, any more.

        While the store cannot be asked, those who were seen before are still known.
        """
        name = digest_of(secret)
        if not self._service.store.health.up and name in self._seen:
            # A database that hangs would have each page wait for its own time-out.
            return self._visitor(self._seen[name], secret, reachable=False)
        try:
            session = await self._service.store.session(name)
        except StoreError:
            session, reachable = self._seen.get(name), False
        else:
            reachable = True
        if session is None:
            self._seen.pop(name, None)
            return None
        return self._visitor(session, secret, reachable=reachable)

    def _visitor(self, session: Session, secret: str, *, reachable: bool) -> Visitor | None:
        if session.ends_at <= time.time():
            self._seen.pop(session.id, None)
            return None
        operator = self._service.operator(session.token_sha256)
        if not isinstance(operator, Operator):
            return None
        self._see(session)
        return Visitor(operator, secret, reachable)

    async def log_out(self, secret: str) -> None:
        """End a session. Raises StoreError."""
        name = digest_of(secret)
        await self._service.store.log_out(name)
        self._seen.pop(name, None)

    def _see(self, session: Session) -> None:
        self._seen[session.id] = session
        self._seen.move_to_end(session.id)
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
