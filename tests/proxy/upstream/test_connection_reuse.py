"""Connections to upstreams: state between exchanges, and connections that cannot be reused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidekey.proxy.upstream.connection import UpstreamConnection
from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import RunningPlane, base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.scripted import ScriptedPlane, settle
from support.upstream import OK

H = integration("h", base_url(1))
BRIEF = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok"
"""Keeps the connection for a second here: what is announced, less one."""


@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
async def test_a_long_upload_outlives_the_idle_deadline_of_its_connection(chunked: bool) -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(BRIEF)
    caller.read()
    upstream.read()
    framing, pieces = "Content-Length: 40", [b"0123456789"] * 4
    if chunked:
        framing = "Transfer-Encoding: chunked"
        pieces = [b"a\r\n%b\r\n" % piece for piece in pieces[:3]] + [b"a\r\n0123456789\r\n0\r\n\r\n"]
    caller.feed(request("POST", "/a", framing))
    for second, piece in enumerate(pieces, 1):
        sidekey.plane.worker.deadlines.look(float(second))
        caller.feed(piece)
    assert not upstream.aborted
    (message,) = wire.requests(upstream.read())
    assert message.body == b"0123456789" * 4
    upstream.feed(OK)
    assert caller.read().startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(sidekey.upstreams) == 1


async def test_write_time_out_applies_to_an_upload_on_a_reused_connection() -> None:
    sidekey = ScriptedPlane(H, timeouts=Timeouts(write=5))
    caller = sidekey.caller()
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.feed(BRIEF)
    upstream.block_writes()
    caller.read()
    caller.feed(request("POST", "/a", "Content-Length: 40") + b"0123456789")
    sidekey.plane.worker.deadlines.look(4.0)
    assert caller.read() == b""
    sidekey.plane.worker.deadlines.look(6.0)
    response = wire.first_response(caller.read())
    assert response is not None
    assert problem(response)["code"] == "upstream_timeout"


UPLOAD = 400 << 10
"""Less than an upstream connection takes before its caller is held, more than there is room for at the other end."""


@asynccontextmanager
async def stalled_upload(
    early: bytes, *, sent: int, timeouts: Timeouts
) -> AsyncIterator[tuple[RunningPlane, RawConnection]]:
    """Upload `sent` bytes to an upstream that responds and stops reading.

    Yields when the caller has the response, while part of the upload still waits for the upstream.
    """
    asked = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()
        await asked.wait()
        await connection.send(early)

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
        sidekey.connect() as caller,
    ):
        body = b"x" * sent
        await caller.send(request("POST", "/a", f"Content-Length: {UPLOAD}") + body[:10])
        connection = await upstream.connection()
        await connection.until_contains(b"\r\n\r\n")
        active = upstream_connection(sidekey)
        await caller.send(body[10:])
        exchange = active.exchange
        assert exchange is not None
        await eventually(lambda: exchange._request.received == sent)
        assert active.transport.get_write_buffer_size() > 0
        asked.set()
        assert (await caller.response()).status == int(early.split(b" ")[1])
        yield sidekey, connection


def upstream_connection(sidekey: RunningPlane) -> UpstreamConnection:
    """Return the upstream connection of the only exchange."""
    (held,) = sidekey.plane.worker.connections
    assert held.exchange is not None
    assert held.exchange._upstream is not None
    return held.exchange._upstream


EARLY = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"
CLOSING = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
LASTING = Timeouts(idle=600, keep_alive=600, write=600, response=600)


async def test_upstream_that_responds_early_and_stops_reading_is_reset() -> None:
    """The rest of the upload will not arrive, and the request must not look complete."""
    async with stalled_upload(EARLY, sent=UPLOAD - 1, timeouts=LASTING) as (sidekey, connection):
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        connection.transport.resume_reading()
        assert wire.first_request(await connection.until_ended()) is None


@pytest.mark.parametrize(
    ("early", "timeouts"),
    [(CLOSING, Timeouts(write=0.3)), (EARLY, Timeouts(write=0.3, idle=0.3))],
    ids=["closing", "kept"],
)
async def test_upstream_that_never_reads_the_end_of_a_request_is_reset(early: bytes, timeouts: Timeouts) -> None:
    """After timeouts.write from the close, which may follow the idle time-out."""
    async with stalled_upload(early, sent=UPLOAD, timeouts=timeouts) as (sidekey, connection):
        for _ in range(2):
            assert sidekey.metrics.upstream_open == 1
            sidekey.advance(0.4)
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        connection.transport.resume_reading()
        assert wire.first_request(await connection.until_ended()) is None


async def test_upstream_that_reads_the_end_of_a_request_late_gets_it() -> None:
    """The close after the response is graceful."""
    async with stalled_upload(CLOSING, sent=UPLOAD, timeouts=LASTING) as (sidekey, connection):
        connection.transport.resume_reading()
        await connection.until_ended()
        (message,) = wire.requests(bytes(connection.received))
        assert (len(message.body), connection.error) == (UPLOAD, None)
        await eventually(lambda: sidekey.metrics.upstream_open == 0)


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("PUT", True), ("POST", False)])
async def test_connection_passed_to_a_waiting_request_counts_as_reused(method: str, again: bool) -> None:
    """It closes before its second response: Sidekey retries an idempotent request once."""
    answer_first = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection is upstream.connections[0]:
            await answer_first.wait()
            await connection.send(OK)
            await connection.request()
            sidekey.dialer.go.set()
        connection.close()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as one, sidekey.connect() as other:
            await one.send(get("/first"))
            await (await upstream.connection()).until_contains(b"\r\n\r\n")
            sidekey.dialer.go.clear()
            await other.send(request(method, "/second", body=b"whole"))
            (pool,) = sidekey.plane.pools.known()
            await eventually(lambda: pool._waiting)
            answer_first.set()
            assert (await one.response()).body == b"ok"
            error = problem(await other.response())
        # Every connection but the first closes at its first request, so that a second attempt fails as well.
        assert (error["error"], error["sent"]) == ("connection_terminated", "maybe")
        await sidekey.wait_until_idle()
        sent = [[message.target for message in wire.requests(data)] for data in upstream.received]
        assert sent[0] == [b"/api/first", b"/api/second"]
        assert [targets for targets in sent[1:] if targets] == ([[b"/api/second"]] if again else [])


async def test_waiting_request_is_retried_byte_for_byte_on_a_new_connection() -> None:
    sidekey = ScriptedPlane(H)
    one, other = sidekey.caller(), sidekey.caller()
    one.feed(get("/first"))
    first = await sidekey.upstream()
    sidekey.dialer.go.clear()
    other.feed(request("PUT", "/second", body=b"whole"))
    await settle()
    first.read()
    first.feed(OK)
    sent = first.read()
    assert sent.startswith(b"PUT /api/second HTTP/1.1\r\n")
    sidekey.dialer.go.set()
    first.fail(ConnectionResetError())
    await settle()
    (again,) = [upstream for upstream in sidekey.upstreams[1:] if upstream.written]
    assert again.read() == sent
    again.feed(OK)
    assert other.read().startswith(b"HTTP/1.1 200 OK\r\n")
