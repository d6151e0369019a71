"""What a connection to an upstream brings from one exchange into the next, and how one ends that cannot have a next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.memory import Upstream, running
from support.plane import Running, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
BRIEF = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok"
"""Keeps the connection for a second here: what is announced, less one."""


@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
async def test_a_long_upload_outlives_the_idle_deadline_of_its_connection(chunked: bool) -> None:
    """Once a connection is in use again, the time until which it would have been kept says nothing."""
    sidekey = Scripted(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(BRIEF)
    caller.take()
    upstream.take()
    framing, pieces = "Content-Length: 40", [b"0123456789"] * 4
    if chunked:
        framing = "Transfer-Encoding: chunked"
        pieces = [b"a\r\n%b\r\n" % piece for piece in pieces[:3]] + [b"a\r\n0123456789\r\n0\r\n\r\n"]
    caller.feed(request("POST", "/a", framing))
    for second, piece in enumerate(pieces, 1):
        sidekey.plane.worker.deadlines.look(float(second))
        caller.feed(piece)
    assert not upstream.aborted
    (message,) = wire.requests(upstream.take())
    assert message.body == b"0123456789" * 4
    upstream.feed(OK)
    assert caller.take().startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(sidekey.upstreams) == 1


async def test_an_upload_on_a_used_connection_still_ends_at_the_write_timeout() -> None:
    """Only the deadline of its idleness is gone: an upstream that is full from the first write on has its own."""
    sidekey = Scripted(H, timeouts=Timeouts(write=5))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(BRIEF)
    upstream.choke()
    caller.take()
    caller.feed(request("POST", "/a", "Content-Length: 40") + b"0123456789")
    sidekey.plane.worker.deadlines.look(4.0)
    assert caller.take() == b""
    sidekey.plane.worker.deadlines.look(6.0)
    answer = wire.first_response(caller.take())
    assert answer is not None
    assert problem(answer)["code"] == "upstream_timeout"


UPLOAD = 400 << 10
"""Less than an upstream connection takes before its caller is held, more than there is room for at the other end."""


@asynccontextmanager
async def stuck(early: bytes, *, sent: int, timeouts: Timeouts) -> AsyncIterator[tuple[Running, RawConnection]]:
    """An upload of which `sent` bytes were taken from the caller, answered by an upstream that reads no more.

    Yields when the response has come to the caller, while part of the upload still waits for the upstream.
    """
    asked = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()
        await asked.wait()
        await connection.send(early)

    async with (
        Upstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
        sidekey.connect() as caller,
    ):
        body = b"x" * sent
        await caller.send(request("POST", "/a", f"Content-Length: {UPLOAD}") + body[:10])
        connection = await upstream.connection()
        await connection.until_contains(b"\r\n\r\n")
        active = under_way(sidekey)
        await caller.send(body[10:])
        exchange = active.exchange
        assert exchange is not None
        await eventually(lambda: exchange._request.received == sent)
        assert active.transport.get_write_buffer_size() > 0
        asked.set()
        assert (await caller.response()).status == int(early.split(b" ")[1])
        yield sidekey, connection


def under_way(sidekey: Running) -> UpstreamConnection:
    """The upstream connection of the one exchange."""
    (held,) = sidekey.plane.worker.connections
    assert held.exchange is not None
    assert held.exchange._upstream is not None
    return held.exchange._upstream


EARLY = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
LASTING = Timeouts(idle=600, keep_alive=600, write=600, response=600)


async def test_an_upstream_that_answers_early_and_stops_reading_is_cut_off() -> None:
    """The rest of the upload will not come: no time is given to what waits, and the request never looks complete."""
    async with stuck(EARLY, sent=UPLOAD - 1, timeouts=LASTING) as (sidekey, connection):
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        connection.transport.resume_reading()
        assert wire.first_request(await connection.until_ended()) is None


@pytest.mark.parametrize(
    ("early", "timeouts"),
    [(CLOSING, Timeouts(write=0.3)), (EARLY, Timeouts(write=0.3, idle=0.3))],
    ids=["closing", "kept"],
)
async def test_an_upstream_that_never_takes_the_end_of_a_request_is_cut_off_in_time(
    early: bytes, timeouts: Timeouts
) -> None:
    """After the write time-out of a close that is to be orderly, or, where it was kept, of that after its idleness."""
    async with stuck(early, sent=UPLOAD, timeouts=timeouts) as (sidekey, connection):
        for _ in range(2):
            assert sidekey.metrics.upstream_open == 1
            sidekey.wait(0.4)
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        connection.transport.resume_reading()
        assert wire.first_request(await connection.until_ended()) is None


async def test_an_upstream_that_takes_the_end_of_a_request_late_gets_it_whole() -> None:
    """The close after its response is an orderly one."""
    async with stuck(CLOSING, sent=UPLOAD, timeouts=LASTING) as (sidekey, connection):
        connection.transport.resume_reading()
        await connection.until_ended()
        (message,) = wire.requests(bytes(connection.received))
        assert (len(message.body), connection.error) == (UPLOAD, None)
        await eventually(lambda: sidekey.metrics.upstream_open == 0)


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
async def test_a_connection_handed_over_to_who_waits_is_a_used_one(method: str, again: bool) -> None:
    """It closes before a byte of its second response: an idempotent request is sent again, once, as on a kept one."""
    answer_first = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection is upstream.connections[0]:
            await answer_first.wait()
            await connection.send(OK)
            await connection.request()
            sidekey.dialer.go.set()
        connection.close()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as one, sidekey.connect() as other:
            await one.send(get("/first"))
            await (await upstream.connection()).until_contains(b"\r\n\r\n")
            sidekey.dialer.go.clear()
            await other.send(request(method, "/second", body=b"whole"))
            (pool,) = sidekey.plane.pools.known()
            await eventually(lambda: pool._waiting)
            answer_first.set()
            assert (await one.response()).body == b"ok"
            said = problem(await other.response())
        # Every connection but the first closes at its first request, so that a second attempt fails as well.
        assert (said["error"], said["sent"]) == ("connection_terminated", "maybe")
        await sidekey.settled()
        sent = [[message.target for message in wire.requests(data)] for data in upstream.received]
        assert sent[0] == [b"/api/first", b"/api/second"]
        assert [targets for targets in sent[1:] if targets] == ([[b"/api/second"]] if again else [])


async def test_a_request_that_waited_is_answered_by_its_second_attempt() -> None:
    """The same, with an upstream whose new connection answers; what is sent again is the same byte for byte."""
    sidekey = Scripted(H)
    one, other = sidekey.caller(), sidekey.caller()
    one.feed(get("/first"))
    first = await sidekey.upstream()
    sidekey.dialer.go.clear()
    other.feed(request("PUT", "/second", body=b"whole"))
    await settle()
    first.take()
    first.feed(OK)
    sent = first.take()
    assert sent.startswith(b"PUT /api/second HTTP/1.1\r\n")
    sidekey.dialer.go.set()
    first.lose(ConnectionResetError())
    await settle()
    (again,) = [upstream for upstream in sidekey.upstreams[1:] if upstream.written]
    assert again.take() == sent
    again.feed(OK)
    assert other.take().startswith(b"HTTP/1.1 200 OK\r\n")
