"""TLS sessions to resume (RFC 8446 2.2, RFC 5077): one slot for each origin, trust and client certificate.

A resumed handshake verifies neither chain nor host name again. A slot must therefore never serve two such combinations.
"""

from __future__ import annotations

import ssl
import sys
import time
from typing import NamedTuple
from weakref import WeakKeyDictionary

RESUMES = sys.version_info >= (3, 13, 1)
"""True if this Python can read `SSLObject.session` without a leak. Older ones leak 6.5 KiB with each read (CPython's
gh-116810, not fixed in 3.11 and 3.12)."""

MAX_AGE = 3600.0
"""Seconds after which a certificate is verified again, even if the peer's tickets live longer (up to 7 days)."""

MAX_IDENTITY_CONTEXTS = 512
"""Maximum number of slots with a client certificate. An OpenSSL context and session take 38 KiB, and there may be
thousands of certificates, most with a single long-lived connection."""


class ResumableSession(NamedTuple):
    """A session to resume before `expires_at` (monotonic clock). Then the certificate must be verified again."""

    session: ssl.SSLSession
    expires_at: float


class Sessions:
    """The slot of one origin, trust and client certificate, for the newest session.

    Several connections may resume it at once. A peer that declines it falls back to a full handshake, and the slot
    offers it again. RFC 8446 C.4 advises against that only for the privacy of clients that move.
    """

    __slots__ = ("__weakref__", "_context", "_newest")

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._newest: ResumableSession | None = None

    def offer(self, context: ssl.SSLContext) -> ResumableSession | None:
        """Return the session that a new connection may resume.

        A session is valid only in its context, which the slot keeps alive, even with a client certificate.
        """
        if context is not self._context:
            self._context, self._newest = context, None
        elif self._newest is not None and time.monotonic() >= self._newest.expires_at:
            self._newest = None
        return self._newest

    def store(self, context: ssl.SSLContext, tls: ssl.SSLObject, offered: ResumableSession | None) -> None:
        """Store the TLS session once the response has begun. By then, TLS 1.3 tickets have arrived."""
        if not RESUMES or context is not self._context:
            return
        session = tls.session
        if session is None or not (session.has_ticket or session.id):
            return
        now = time.monotonic()
        # The certificate was verified in the first handshake of this chain of sessions.
        verify_at = offered.expires_at if offered is not None and tls.session_reused else now + MAX_AGE
        lifetime = session.ticket_lifetime_hint or session.timeout
        self._newest = ResumableSession(session, min(now + lifetime, verify_at))

    def forget(self) -> None:
        """Drop the session after a failed handshake (RFC 8446 6.2)."""
        self._newest = None

    def release(self) -> None:
        """Drop session and context. The context is freed with its last connection."""
        self._context = self._newest = None


class IdentityContexts:
    """The most recently used slots with a client certificate, which limits the number of their contexts."""

    def __init__(self, max_slots: int = MAX_IDENTITY_CONTEXTS) -> None:
        self._max_slots = max_slots
        self._slots: WeakKeyDictionary[Sessions, None] = WeakKeyDictionary()

    def use(self, sessions: Sessions) -> None:
        """Mark a slot as used. If there are too many, release the least recently used one."""
        self._slots.pop(sessions, None)
        self._slots[sessions] = None
        if len(self._slots) > self._max_slots:
            oldest = next(iter(self._slots))
            del self._slots[oldest]
            oldest.release()
