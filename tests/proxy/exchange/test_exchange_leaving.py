"""A caller who leaves, or whose time is up, while something is awaited: nothing is done for them once it is there.

Each is a POST, which an upstream must not get for a caller who will never hear of it. An idle connection is there to be
used, so that only the exchange itself holds the request back.
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
from support.scripted import Awaited, Certificate, RecordingTransport, Scripted, settle
from support.unresolved import Missing
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

Await = Callable[[Scripted], Awaitable[Callable[[], None]]]
"""Brings an exchange to where it waits; what comes back lets that come which it waits for."""


def leave(sidekey: Scripted, caller: RecordingTransport) -> None:
    """The caller's connection ends."""
    caller.lose(ConnectionResetError())


def expire(sidekey: Scripted, caller: RecordingTransport) -> None:
    """timeouts.total passes."""
    sidekey.plane.worker.deadlines.look(6.0)


ENDS = {"caller_gone": leave, "upstream_timeout": expire}
every_end = pytest.mark.parametrize("code", ENDS)


async def idle(sidekey: Scripted, count: int = 1) -> None:
    """Have so many connections wait for their next exchange; what they were written is forgotten."""
    callers = [sidekey.caller() for _ in range(count)]
    for caller in callers:
        caller.feed(get(name="o"))
    await settle()
    for upstream in sidekey.upstreams:
        upstream.feed(OK)
        upstream.take()
    assert len(sidekey.pooled()) == count


async def ended(sidekey: Scripted, caller: RecordingTransport, code: str) -> None:
    """End the exchange in that way, and see that it ended so."""
    ENDS[code](sidekey, caller)
    await settle()
    assert sidekey.metrics.stats("h").outcomes == {code: 1}
    if code != "caller_gone":
        answer = first_response(caller.take())
        assert answer is not None
        assert problem(answer)["code"] == code


async def nothing_came_of_it(sidekey: Scripted, code: str, *, connections: int = 1) -> None:
    """No byte at any upstream, no second outcome, no defect; and the connections serve the next request."""
    await eventually(lambda: not sidekey.plane.worker.is_waiting)
    await settle()
    assert [each.take() for each in sidekey.upstreams] == [b""] * len(sidekey.upstreams)
    assert sidekey.metrics.stats("h").outcomes == {code: 1}
    assert sidekey.metrics.in_flight == 0
    assert sidekey.defects == []
    assert len(sidekey.pooled()) == connections


@every_end
async def test_while_a_grant_is_fetched(code: str) -> None:
    """It serves the next request."""
    source = Awaited()
    sidekey = Scripted(OTHER, H, sources={"h": source}, timeouts=TOTAL)
    await idle(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert source.asked == 1
    await ended(sidekey, caller, code)
    source.go.set()
    await nothing_came_of_it(sidekey, code)


@every_end
async def test_while_a_grant_is_fetched_in_vain(code: str) -> None:
    """What it came to is nobody's to hear, and no defect."""
    source = Awaited()
    source.error = ProblemError(Problem("credential_unavailable", "the token endpoint does not respond"))
    sidekey = Scripted(OTHER, H, sources={"h": source}, timeouts=TOTAL)
    await idle(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert source.asked == 1
    await ended(sidekey, caller, code)
    source.go.set()
    await nothing_came_of_it(sidekey, code)
    assert caller.take() == b""


@every_end
async def test_while_a_client_certificate_is_fetched(code: str) -> None:
    """No connection is made under it for nobody, and no grant asked for again."""
    source, held = Awaited(there=True), Certificate(later="late")
    sidekey = Scripted(OTHER, H, sources={"h": source}, identities={"h": held}, timeouts=TOTAL)
    await idle(sidekey)
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert held.asked == 1
    await ended(sidekey, caller, code)
    source.grant = None
    held.go.set()
    source.go.set()
    await nothing_came_of_it(sidekey, code)
    assert (source.asked, len(sidekey.upstreams)) == (0, 1)


@every_end
@pytest.mark.parametrize("path", ["/a", "/../x"], ids=["allowed", "denied"])
async def test_while_its_integration_is_read(path: str, code: str) -> None:
    """Whatever the target turns out to be."""
    missing = Missing(H)
    missing.appear()
    sidekey = Scripted(OTHER, missing.integration(), timeouts=TOTAL)
    await idle(sidekey)
    caller = sidekey.caller()
    caller.feed(request("POST", path, body=b"order"))
    assert sidekey.plane.worker.is_waiting
    await ended(sidekey, caller, code)
    await nothing_came_of_it(sidekey, code)


async def test_the_next_request_is_held_back_whatever_comes_of_the_one_before_it() -> None:
    """Its integration is read at last: that lets no body be read on which another exchange has nowhere to send."""
    missing = Missing(H)
    missing.appear()
    source = Awaited()
    sidekey = Scripted(OTHER, missing.integration(), sources={"o": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    await asyncio.sleep(0)
    expire(sidekey, caller)
    assert caller.take().startswith(b"HTTP/1.1 504 ")
    caller.feed(request("POST", "/a", "Content-Length: 1000", name="o") + b"first")
    assert (source.asked, caller.reading) == (0, False)
    await eventually(lambda: not sidekey.plane.router.find(b"h").rules.unresolved)  # type: ignore[union-attr]
    await settle()
    assert (source.asked, caller.reading) == (1, False)


@every_end
@pytest.mark.parametrize("lapsed", [False, True])
async def test_while_a_connection_is_made(lapsed: bool, code: str) -> None:
    """It is kept for the next, with nothing on it; and no grant is fetched in place of one that lapsed."""
    source = Awaited(there=True)
    sidekey = Scripted(H, sources={"h": source}, timeouts=TOTAL)
    sidekey.dialer.go.clear()
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    await ended(sidekey, caller, code)
    if lapsed:
        source.grant = None
    sidekey.dialer.go.set()
    await nothing_came_of_it(sidekey, code)
    assert source.asked == 0


@every_end
async def test_while_no_connection_can_be_made(code: str) -> None:
    """The failure is that of those who still wait."""
    sidekey = Scripted(H, timeouts=TOTAL)
    sidekey.dialer.go.clear()
    caller = sidekey.caller()
    caller.feed(ORDER)
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    await ended(sidekey, caller, code)
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))
    sidekey.dialer.go.set()
    await nothing_came_of_it(sidekey, code, connections=0)


async def test_while_it_stands_in_line() -> None:
    """A connection that becomes free goes past those who have left, to the first who has not."""
    sidekey = Scripted(OTHER, H)
    first = sidekey.caller()
    first.feed(get(name="o"))
    upstream = await sidekey.upstream()
    upstream.take()
    sidekey.dialer.go.clear()
    gone = [sidekey.caller(), sidekey.caller()]
    stays = sidekey.caller()
    for caller, raw in ((gone[0], ORDER), (gone[1], ORDER), (stays, get("/stays"))):
        caller.feed(raw)
        await settle()
    for caller in gone:
        leave(sidekey, caller)
    await settle()
    upstream.feed(OK)
    assert upstream.take().startswith(b"GET /api/stays HTTP/1.1\r\n")
    upstream.feed(OK)
    assert stays.take().endswith(b"ok")
    assert sidekey.metrics.stats("h").outcomes == {"caller_gone": 2, "2xx": 1}


@every_end
async def test_while_it_is_sent_again(code: str) -> None:
    """Its first connection was stale; the second finds nobody."""
    sidekey = Scripted(H, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.take()
    caller.feed(request("PUT", "/again", body=b"a=b"))
    upstream.take()
    sidekey.dialer.go.clear()
    upstream.lose(ConnectionResetError())
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    ENDS[code](sidekey, caller)
    sidekey.dialer.go.set()
    await settle()
    assert [each.take() for each in sidekey.upstreams] == [b"", b""]
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1, code: 1}
    assert sidekey.defects == []
    assert len(sidekey.pooled()) == 1


@every_end
async def test_while_it_cannot_be_sent_again(code: str) -> None:
    """Nobody is told that."""
    sidekey = Scripted(H, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(OK)
    caller.feed(request("PUT", "/again", body=b"a=b"))
    sidekey.dialer.go.clear()
    upstream.lose(ConnectionResetError())
    await settle()
    assert sidekey.metrics.upstream_connecting == 1
    ENDS[code](sidekey, caller)
    await settle()
    caller.take()
    sidekey.dialer.error = ProblemError(Problem("upstream_unreachable", "the upstream refused the connection"))
    sidekey.dialer.go.set()
    await settle()
    assert caller.take() == b""
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1, code: 1}
    assert sidekey.defects == []


@every_end
@pytest.mark.parametrize("newer", [NEW, None], ids=["newer", "none"])
async def test_while_a_newer_grant_is_fetched(newer: Grant | None, code: str) -> None:
    """It is not sent once more; nor is the refusal delivered, where there is none."""
    source = Awaited(there=True)
    source.refreshed = newer
    sidekey = Scripted(integration("h", BASE, traits=WATCHED), sources={"h": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(ORDER)
    upstream = await sidekey.upstream()
    upstream.take()
    upstream.feed(REFUSED)
    await settle()
    assert source.asked == 1
    await ended(sidekey, caller, code)
    source.go.set()
    await nothing_came_of_it(sidekey, code)
    assert caller.take() == b""


async def test_before_a_newer_grant_is_asked_for() -> None:
    """In the same turn of the loop in which the refusal came."""
    source = Awaited(there=True)
    sidekey = Scripted(integration("h", BASE, traits=WATCHED), sources={"h": source}, timeouts=TOTAL)
    caller = sidekey.caller()
    caller.feed(ORDER)
    (await sidekey.upstream()).feed(REFUSED)
    await ended(sidekey, caller, "upstream_timeout")
    assert source.asked == 0
    assert sidekey.defects == []


@every_end
async def test_while_its_body_comes(code: str) -> None:
    """No grant is fetched for a body that will not be whole."""
    source = Awaited(Grant(headers=AUTHORIZATION, body=(("token", "x"),)))
    sidekey = Scripted(OTHER, integration("h", BASE, traits=IN_BODY), sources={"h": source}, timeouts=TOTAL)
    await idle(sidekey)
    caller = sidekey.caller()
    caller.feed(request("POST", "/order", FORM, "Content-Length: 3") + b"a=")
    await ended(sidekey, caller, code)
    caller.feed(b"b")
    source.go.set()
    await nothing_came_of_it(sidekey, code)
    assert source.asked == 0


async def test_nothing_that_comes_after_the_end_does_anything() -> None:
    """Whichever side tells it."""
    sidekey = Scripted(OTHER, H, timeouts=TOTAL)
    await idle(sidekey, 2)
    caller = sidekey.caller()
    caller.feed(get())
    exchange = caller.protocol.exchange  # type: ignore[attr-defined]
    assert isinstance(exchange, Exchange)
    (upstream,) = [each for each in sidekey.upstreams if each.take()]
    upstream.feed(OK)
    caller.take()
    late = Problem("upstream_protocol_error", "late")
    exchange.upstream_lost(late, stale=True)
    exchange.upstream_lost(late, stale=False)
    exchange.refuse(late)
    exchange.connect_failed(late)
    exchange.declined()
    exchange.expired()
    exchange.upload()
    exchange.caller_full()
    exchange.caller_drained()
    exchange.caller_lost()
    assert not exchange.take_connection(sidekey.pooled()[0])
    await settle()
    assert (caller.take(), [each.take() for each in sidekey.upstreams]) == (b"", [b"", b""])
    assert (exchange.is_over, exchange.awaits_connection, len(sidekey.pooled())) == (True, False, 2)
    assert sidekey.metrics.stats("h").outcomes == {"2xx": 1}
    assert sidekey.metrics.in_flight == 0
