"""A caller disconnects, or its request times out, while the exchange waits: later events have no effect.

Each request is a POST, which the upstream must not receive for an absent caller. A connection is idle, so that only
the exchange itself holds the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import Problem, ProblemError
from sidekey.proxy.exchange.exchange import Exchange
from sidekey.snapshot.request_rules import Timeouts
from support.plane import AUTHORIZATION, base_url, eventually, get, integration, problem, request
from support.scripted import GatedGrantSource, GatedIdentitySource, RecordingTransport, ScriptedPlane, settle
from support.unresolved import UnresolvedIntegration
from support.upstream import OK
from support.wire import first_response

BASE = base_url(1)
FORM = "Content-Type: application/x-www-form-urlencoded"
WATCHED = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
IN_BODY = CredentialTraits(InjectionPoints(headers=("Authorization",), body=("token",)), calls=True)
H, OTHER = integration("h", BASE), integration("o", BASE)
NEW = Grant(headers=(("Authorization", "Bearer new"),))
ORDER = request("POST", "/order", FORM, body=b"a=b")
REFUSED = b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nstop"
TOTAL = Timeouts(total=5.0)

Await = Callable[[ScriptedPlane], Awaitable[Callable[[], None]]]
"""Brings an exchange to where it waits; what comes back lets that come which it waits for."""


def disconnect(sidekey: ScriptedPlane, caller: RecordingTransport) -> None:
    """Close the caller's connection."""
    caller.fail(ConnectionResetError())


def expire(sidekey: ScriptedPlane, caller: RecordingTransport) -> None:
    """Let timeouts.total pass."""
    sidekey.plane.worker.deadlines.look(6.0)


ENDS = {"caller_gone": disconnect, "upstream_timeout": expire}
every_end = pytest.mark.parametrize("code", ENDS)


async def open_idle_connections(sidekey: ScriptedPlane, count: int = 1) -> None:
    """Open this many idle upstream connections."""
    callers = [sidekey.caller() for _ in range(count)]
    for caller in callers:
        caller.feed(get(name="o"))
    await settle()
    for upstream in sidekey.upstreams:
        upstream.feed(OK)
        upstream.read()
    assert len(sidekey.pooled()) == count


async def end_exchange(sidekey: ScriptedPlane, caller: RecordingTransport, code: str) -> None:
    """End the exchange in this way, and assert its outcome."""
    ENDS[code](sidekey, caller)
    await settle()
    assert sidekey.metrics.stats("h").outcomes == {code: 1}
    if code != "caller_gone":
        response = first_response(caller.read())
        assert response is not None
        assert problem(response)["code"] == code


async def assert_nothing_happened(sidekey: ScriptedPlane, code: str, *, connections: int = 1) -> None:
    """No byte at any upstream, no second outcome, no defect. The connections serve the next request."""
    await eventually(lambda: not sidekey.plane.worker.is_waiting)
    await settle()
    assert [item.read() for item in sidekey.upstreams] == [b""] * len(sidekey.upstreams)
    assert sidekey.metrics.stats("h").outcomes == {code: 1}
    assert sidekey.metrics.in_flight == 0
    assert sidekey.defects == []
    assert len(sidekey.pooled()) == connections


@every_end
async def test_while_a_grant_is_fetched(code: str) -> None:
    """The grant serves the next request."""
    source = GatedGrantSource()
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source}, timeouts=TOTAL)
    await open_idle_connections(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert source.calls == 1
    await end_exchange(sidekey, caller, code)
    source.go.set()
    await assert_nothing_happened(sidekey, code)


@every_end
async def test_while_a_grant_fetch_fails(code: str) -> None:
    source = GatedGrantSource()
    source.error = ProblemError(Problem("credential_unavailable", "the token endpoint does not respond"))
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source}, timeouts=TOTAL)
    await open_idle_connections(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert source.calls == 1
    await end_exchange(sidekey, caller, code)
    source.go.set()
    await assert_nothing_happened(sidekey, code)
    assert caller.read() == b""


@every_end
async def test_while_a_client_certificate_is_fetched(code: str) -> None:
    """Sidekey opens no connection with it, and fetches no grant again."""
    source, held = GatedGrantSource(available=True), GatedIdentitySource(later="late")
    sidekey = ScriptedPlane(OTHER, H, sources={"h": source}, identities={"h": held}, timeouts=TOTAL)
    await open_idle_connections(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert held.calls == 1
    await end_exchange(sidekey, caller, code)
    source.grant = None
    held.go.set()
    source.go.set()
    await assert_nothing_happened(sidekey, code)
    assert (source.calls, len(sidekey.upstreams)) == (0, 1)


@every_end
@pytest.mark.parametrize("path", ["/a", "/../x"], ids=["allowed", "denied"])
async def test_while_its_integration_is_resolved(path: str, code: str) -> None:
    missing = UnresolvedIntegration(H)
    missing.resolve()
    sidekey = ScriptedPlane(OTHER, missing.integration(), timeouts=TOTAL)
    await open_idle_connections(sidekey)
    caller = sidekey.caller()
    caller.feed(request("POST", path, body=b"order"))
    assert sidekey.plane.worker.is_waiting
    await end_exchange(sidekey, caller, code)
    await assert_nothing_happened(sidekey, code)


async def test_next_request_waits_although_the_previous_integration_was_resolved() -> None:
    """Sidekey must not read a body for an exchange without an upstream."""
    missing = UnresolvedIntegration(H)
    missing.resolve()
    source = GatedGrantSource()
    sidekey = ScriptedPlane(OTHER, missing.integration(), sources={"o": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    await asyncio.sleep(0)
    expire(sidekey, caller)
    assert caller.read().startswith(b"HTTP/1.1 504 ")
    caller.feed(request("POST", "/a", "Content-Length: 1000", name="o") + b"first")
    assert (source.calls, caller.reading) == (0, False)
    await eventually(lambda: not sidekey.plane.router.find(b"h").rules.unresolved)  # type: ignore[union-attr]
    await settle()
    assert (source.calls, caller.reading) == (1, False)


@every_end
@pytest.mark.parametrize("lapsed", [False, True])
async def test_while_a_connection_is_opened(lapsed: bool, code: str) -> None:
    """The connection stays idle for the next request. Sidekey renews no expired grant."""
    source = GatedGrantSource(available=True)
    sidekey = ScriptedPlane(H, sources={"h": source}, timeouts=TOTAL)
    sidekey.dialer.go.clear()
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    await end_exchange(sidekey, caller, code)
    if lapsed:
        source.grant = None
    sidekey.dialer.go.set()
    await assert_nothing_happened(sidekey, code)
    assert source.calls == 0


@every_end
async def test_while_a_connection_fails(code: str) -> None:
    """Only requests that still wait fail."""
    sidekey = ScriptedPlane(H, timeouts=TOTAL)
    sidekey.dialer.go.clear()
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    await end_exchange(sidekey, caller, code)
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))
    sidekey.dialer.go.set()
    await assert_nothing_happened(sidekey, code, connections=0)


async def test_while_it_waits_in_the_queue() -> None:
    """A free connection goes to the first request whose caller is still there."""
    sidekey = ScriptedPlane(OTHER, H)
    first = sidekey.caller()
    first.feed(get(name="o"))
    upstream = await sidekey.upstream()
    upstream.read()
    sidekey.dialer.go.clear()
    gone = [sidekey.caller(), sidekey.caller()]
    stays = sidekey.caller()
    for caller, raw in ((gone[0], ORDER), (gone[1], ORDER), (stays, get("/stays"))):
        caller.feed(raw)
        await settle()
    for caller in gone:
        disconnect(sidekey, caller)
    await settle()
    upstream.feed(OK)
    assert upstream.read().startswith(b"GET /api/stays HTTP/1.1\r\n")
    upstream.feed(OK)
    assert stays.read().endswith(b"ok")
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 2, "2xx": 1}


@every_end
async def test_while_it_is_retried(code: str) -> None:
    """Its first connection was closed."""
    sidekey = ScriptedPlane(H, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.read()
    caller.feed(request("PUT", "/again", body=b"a=b"))
    upstream.read()
    sidekey.dialer.go.clear()
    upstream.fail(ConnectionResetError())
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    ENDS[code](sidekey, caller)
    sidekey.dialer.go.set()
    await settle()
    assert [item.read() for item in sidekey.upstreams] == [b"", b""]
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1, code: 1}
    assert sidekey.defects == []
    assert len(sidekey.pooled()) == 1


@every_end
async def test_while_its_retry_fails(code: str) -> None:
    sidekey = ScriptedPlane(H, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.feed(request("PUT", "/again", body=b"a=b"))
    sidekey.dialer.go.clear()
    upstream.fail(ConnectionResetError())
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    ENDS[code](sidekey, caller)
    await settle()
    caller.read()
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))
    sidekey.dialer.go.set()
    await settle()
    assert caller.read() == b""
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1, code: 1}
    assert sidekey.defects == []


@every_end
@pytest.mark.parametrize("newer", [NEW, None], ids=["newer", "none"])
async def test_while_a_newer_grant_is_fetched(newer: Grant | None, code: str) -> None:
    """Sidekey neither replays the request nor delivers the refusal."""
    source = GatedGrantSource(available=True)
    source.refreshed = newer
    sidekey = ScriptedPlane(integration("h", BASE, traits=WATCHED), sources={"h": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(ORDER)
    upstream = await sidekey.upstream()
    upstream.read()
    upstream.feed(REFUSED)
    await settle()
    assert source.calls == 1
    await end_exchange(sidekey, caller, code)
    source.go.set()
    await assert_nothing_happened(sidekey, code)
    assert caller.read() == b""


async def test_before_a_newer_grant_is_fetched() -> None:
    """In the turn of the loop in which the refusal arrived."""
    source = GatedGrantSource(available=True)
    sidekey = ScriptedPlane(integration("h", BASE, traits=WATCHED), sources={"h": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(ORDER)
    (await sidekey.upstream()).feed(REFUSED)
    await end_exchange(sidekey, caller, "upstream_timeout")
    assert source.calls == 0
    assert sidekey.defects == []


@every_end
async def test_while_its_body_arrives(code: str) -> None:
    """Sidekey fetches no grant for an incomplete body."""
    source = GatedGrantSource(Grant(headers=AUTHORIZATION, body=(("token", "x"),)))
    sidekey = ScriptedPlane(OTHER, integration("h", BASE, traits=IN_BODY), sources={"h": source}, timeouts=TOTAL)
    await open_idle_connections(sidekey)
    caller = sidekey.caller()
    caller.feed(request("POST", "/order", FORM, "Content-Length: 3") + b"a=")
    await end_exchange(sidekey, caller, code)
    caller.feed(b"b")
    source.go.set()
    await assert_nothing_happened(sidekey, code)
    assert source.calls == 0


async def test_events_after_the_end_have_no_effect() -> None:
    sidekey = ScriptedPlane(OTHER, H, timeouts=TOTAL)
    await open_idle_connections(sidekey, 2)
    caller = sidekey.caller()
    caller.feed(get())
    exchange = caller.protocol.exchange  # type: ignore[attr-defined]
    assert isinstance(exchange, Exchange)
    (upstream,) = [item for item in sidekey.upstreams if item.read()]
    upstream.feed(OK)
    caller.read()
    late = Problem("upstream_protocol_error", "late")
    exchange.upstream_lost(late, stale=True)
    exchange.upstream_lost(late, stale=False)
    exchange.request_unreadable(late)
    exchange.connect_failed(late)
    exchange.connection_declined()
    exchange.expired()
    exchange.body_received()
    exchange.caller_full()
    exchange.caller_drained()
    exchange.caller_lost()
    assert not exchange.take_connection(sidekey.pooled()[0])
    await settle()
    assert (caller.read(), [item.read() for item in sidekey.upstreams]) == (b"", [b"", b""])
    assert (exchange.is_over, exchange.awaits_connection, len(sidekey.pooled())) == (True, False, 2)
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1}
    assert sidekey.metrics.in_flight == 0
