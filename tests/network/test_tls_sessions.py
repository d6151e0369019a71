"""TLS sessions: slots, offers and expiry."""

from __future__ import annotations

import gc
import ssl
import weakref
from pathlib import Path

import pytest

from sidekey.network.tls import client_context
from sidekey.network.tls_sessions import MAX_AGE, RESUMES, IdentityContexts, ResumableSession, Sessions
from support.private_ca import Authority
from support.tls_peer import handshake

needs_resumption = pytest.mark.skipif(not RESUMES, reason="this Python leaks memory for each session that is read")


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the sessions."""
    moved = Clock()
    monkeypatch.setattr("sidekey.network.tls_sessions.time", moved)
    return moved


@pytest.fixture
def client(ca: Authority) -> ssl.SSLContext:
    """Build a client's context that trusts the test's CA."""
    return client_context(ca.trust)


@pytest.fixture
def server(ca: Authority) -> ssl.SSLContext:
    """Build a server's context with session tickets."""
    return ca.server_context("up.test")


def connect(sessions: Sessions, client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """Connect as the transport does. Return True if the session was resumed."""
    offer = sessions.offer(client)
    tls, _ = handshake(client, server, None if offer is None else offer.session)
    sessions.store(client, tls, offer)
    return bool(tls.session_reused)


@pytest.mark.skipif(RESUMES, reason="this Python keeps sessions without a leak")
def test_python_that_leaks_sessions_resumes_none(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """CPython's gh-116810: 6.5 KiB for each read of a session."""
    sessions = Sessions()
    assert [connect(sessions, client, server) for _ in range(3)] == [False, False, False]


@needs_resumption
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_second_connection_resumes(client: ssl.SSLContext, server: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """Later connections do, too, with the newest ticket."""
    server.maximum_version = version
    sessions = Sessions()
    assert sessions.offer(client) is None
    assert [connect(sessions, client, server) for _ in range(5)] == [False, True, True, True, True]


@needs_resumption
def test_slots_share_no_session(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """A resumed handshake verifies nothing."""
    connect(Sessions(), client, server)
    assert not connect(Sessions(), client, server)


@needs_resumption
def test_session_ends_with_its_context(client: ssl.SSLContext, server: ssl.SSLContext, ca: Authority) -> None:
    """A late connection with a rotated certificate stores none."""
    sessions = Sessions()
    connect(sessions, client, server)
    tls, _ = handshake(client, server)
    rotated = client_context(ca.trust)
    assert sessions.offer(rotated) is None
    sessions.store(client, tls, None)
    assert sessions.offer(rotated) is None
    assert not connect(sessions, rotated, server)


@needs_resumption
def test_certificate_is_verified_again_after_an_hour(
    client: ssl.SSLContext, server: ssl.SSLContext, clock: Clock
) -> None:
    """Even if each resumption brought a new ticket."""
    sessions = Sessions()
    resumed = []
    for _ in range(5):
        resumed.append(connect(sessions, client, server))
        clock.now += MAX_AGE / 3
    assert resumed == [False, True, True, False, True]


@needs_resumption
def test_failed_handshake_drops_the_session(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """RFC 8446 6.2."""
    sessions = Sessions()
    connect(sessions, client, server)
    assert isinstance(sessions.offer(client), ResumableSession)
    sessions.forget()
    assert sessions.offer(client) is None


@needs_resumption
def test_server_that_did_not_resume_is_offered_its_next_ticket(client: ssl.SSLContext, ca: Authority) -> None:
    """For example several machines that do not share keys."""
    sessions = Sessions()
    assert not any(connect(sessions, client, ca.server_context("up.test")) for _ in range(5))
    server = ca.server_context("up.test")
    assert [connect(sessions, client, server) for _ in range(2)] == [False, True]


@needs_resumption
def test_server_without_sessions_leaves_the_slot_empty(client: ssl.SSLContext, ca: Authority) -> None:
    server = ca.server_context("up.test")
    server.num_tickets = 0
    sessions = Sessions()
    assert not connect(sessions, client, server)
    assert not connect(sessions, client, server)


@needs_resumption
def test_number_of_identity_contexts_is_limited(server: ssl.SSLContext, ca: Authority) -> None:
    """The least recently used slot releases its context and session."""
    personal = IdentityContexts(2)
    slots = [Sessions() for _ in range(3)]
    contexts = [client_context(ca.trust) for _ in slots]

    def use(index: int) -> bool:
        personal.use(slots[index])
        return connect(slots[index], contexts[index], server)

    assert [use(0), use(1), use(0)] == [False, False, True]
    assert [use(2), use(0)] == [False, True]
    released, held = weakref.ref(contexts[1]), weakref.ref(contexts[0])
    contexts.clear()
    assert released() is None
    assert held() is not None
    contexts += (client_context(ca.trust) for _ in slots)
    assert [use(1), use(1)] == [False, True]


def test_freed_slot_is_not_referenced(client: ssl.SSLContext) -> None:
    """Its context contains a private key."""
    personal, slots = IdentityContexts(2), [Sessions()]
    personal.use(slots[0])
    slots[0].offer(client)
    gone = weakref.ref(slots.pop())
    assert gone() is None


def test_sessions_do_not_leak_memory(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    sessions = Sessions()

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    for _ in range(200):
        connect(sessions, client, server)
    before = resident()
    for _ in range(600):
        connect(sessions, client, server)
    assert resident() - before < 600 * 2048
