"""TLS sessions to resume (RFC 8446 2.2, RFC 5077): one slot for each TLS identity.

A resumed handshake verifies neither chain nor host name again, so that a slot must never serve two identities: origin,
trust and client certificate.
"""

from __future__ import annotations

import ssl
import sys
import time
from typing import NamedTuple
from weakref import WeakKeyDictionary

RESUMES = sys.version_info >= (3, 13, 1)
"""Whether this Python keeps a session without a leak: before, each reading of `SSLObject.session` lost a copy of it,
6.5 KiB (CPython's gh-116810, which 3.11 and 3.12 keep)."""

MAX_AGE = 3600.0
"""Seconds after which a certificate is verified again, however long the tickets of the peer live (up to 7 days)."""

MAX_IDENTITY_CONTEXTS = 512
"""Slots with a client certificate: a context and a session of OpenSSL take 38 KiB, and there may be thousands of
certificates, most of which are used by one connection that is kept."""


class ResumableSession(NamedTuple):
    """A session to resume. `until` is when the certificate behind it must be verified again, on the monotonic clock."""

    session: ssl.SSLSession
    until: float


class Sessions:
    """The slot of one TLS identity.

    It offers the newest ticket, also to several connections at once and to a peer that did not take the last one: the
    peer then falls back to a full handshake. RFC 8446 C.4 advises against that only for the privacy of clients that
    move.
    """

    __slots__ = ("__weakref__", "_context", "_offer")

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._offer: ResumableSession | None = None

    def offer(self, context: ssl.SSLContext) -> ResumableSession | None:
        """What a new connection may resume. A session lives and dies with its context.

        The context is held from here on, so that one with a client certificate lives as long as the slot.
        """
        if context is not self._context:
            self._context, self._offer = context, None
        elif self._offer is not None and time.monotonic() >= self._offer.until:
            self._offer = None
        return self._offer

    def keep(self, context: ssl.SSLContext, tls: ssl.SSLObject, offered: ResumableSession | None) -> None:
        """Take the session of a connection whose response has begun; TLS 1.3 sends its tickets before that."""
        if not RESUMES or context is not self._context:
            return
        session = tls.session
        if session is None or not (session.has_ticket or session.id):
            return
        now = time.monotonic()
        # A resumed session depends on the verification of the first one.
        limit = offered.until if offered is not None and tls.session_reused else now + MAX_AGE
        lifetime = session.ticket_lifetime_hint or session.timeout
        self._offer = ResumableSession(session, min(now + lifetime, limit))

    def forget(self) -> None:
        """Drop the session: after a handshake that failed (RFC 8446 6.2)."""
        self._offer = None

    def release(self) -> None:
        """Drop the context as well, which is gone with its last connection."""
        self._context = self._offer = None


class IdentityContexts:
    """The slots that hold a context of their own, for a client certificate: so many at most, those used last."""

    def __init__(self, most: int = MAX_IDENTITY_CONTEXTS) -> None:
        self._most = most
        self._slots: WeakKeyDictionary[Sessions, None] = WeakKeyDictionary()

    def use(self, sessions: Sessions) -> None:
        """Note that a slot is about to be used. One too many releases the one that was not used for longest."""
        self._slots.pop(sessions, None)
        self._slots[sessions] = None
        if len(self._slots) > self._most:
            oldest = next(iter(self._slots))
            del self._slots[oldest]
            oldest.release()
