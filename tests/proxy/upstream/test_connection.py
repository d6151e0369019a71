"""Connections to upstreams: reading of responses, and reuse."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.snapshot.request_rules import Limits
from support import wire
from support.framing import chunks, response_head
from support.memory import MemoryUpstream, running
from support.plane import base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, Script, respond_with

BIG = bytes(range(256)) * 12_000


def in_pieces(response: bytes, size: int) -> Script:
    """Build a script that sends each response in pieces, each in its own turn of the loop."""

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            for at in range(0, len(response), size):
                await connection.send(response[at : at + size])
                await asyncio.sleep(0)

    return script


def serving(response: bytes) -> Script:
    """Build a script that responds OK to /api/second, and with `response` to other targets."""

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            await connection.send(OK if message.target == b"/api/second" else response)

    return script


FRAMINGS = {
    "Content-Length": response_head(f"Content-Length: {len(BIG)}") + BIG,
    "chunked": response_head("Transfer-Encoding: chunked") + chunks(BIG[:1], BIG[1:70_000], BIG[70_000:]),
}


@pytest.mark.parametrize("size", [1 << 30, 65_537], ids=["one piece", "pieces"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("response", FRAMINGS.values(), ids=FRAMINGS)
async def test_a_long_response_arrives_byte_for_byte(response: bytes, version: str, size: int) -> None:
    """With any framing and in any pieces. The upstream connection serves the next request."""
    async with MemoryUpstream(in_pieces(response, size)) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey:
            for _ in range(2):
                reply = await sidekey.send(get(version=version))
                assert (reply.status, reply.body == BIG) == (200, True)
        assert [len(wire.requests(data)) for data in upstream.received] == [2]


@pytest.mark.parametrize(
    "response", [OK, response_head("Transfer-Encoding: chunked") + chunks(b"o", b"k")], ids=["CL", "chunked"]
)
async def test_a_response_in_single_bytes(response: bytes) -> None:
    async with (
        MemoryUpstream(in_pieces(response, 1)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        assert (await sidekey.send(get())).body == b"ok"


async def test_a_close_delimited_response_that_ends_in_a_reset_is_cut() -> None:
    """Over TCP, only FIN completes such a response."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response_head("Connection: close") + b"hello")
        await connection.until_contains(b"GET")
        (caller,) = sidekey.plane.worker.connections
        await eventually(lambda: caller.exchange is not None and caller.exchange._sent)
        connection.reset()

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller_side,
    ):
        await caller_side.send(get())
        await caller_side.until_lost()
        assert isinstance(caller_side.error, ConnectionResetError)


@pytest.mark.parametrize(
    "extra",
    [OK, b"\r\n", b"x", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["a second answer", "an empty line", "stray bytes", "an interim answer"],
)
async def test_bytes_after_a_response_are_not_the_next_response(extra: bytes) -> None:
    first = response_head("Content-Length: 5") + b"first" + extra
    async with (
        MemoryUpstream(serving(first)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get() + get("/second"))
        assert [(await caller.response()).body for _ in range(2)] == [b"first", b"ok"]


async def test_bytes_on_an_idle_connection_close_it() -> None:
    """The next request uses a new connection."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await asked.wait()
        await connection.send(OK)

    asked = asyncio.Event()
    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.send(get())
        asked.set()
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        assert (await sidekey.send(get())).body == b"ok"
        assert len(upstream.connections) == 2


@pytest.mark.parametrize("expects", [True, False])
async def test_100_continue_goes_only_to_a_caller_with_the_expectation(expects: bool) -> None:
    """RFC 9110 10.1.1"""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.request()
        await connection.send(OK)

    async with MemoryUpstream(script) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            fields = ("Expect: 100-continue",) if expects else ()
            await caller.send(request("POST", "/a", *fields, "Content-Length: 4"))
            if expects:
                assert (await caller.response()).status == 100
            await caller.send(b"body")
            assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert (message.values(b"expect"), message.body) == ([b"100-continue"] if expects else [], b"body")


async def test_error_after_100_continue_is_502() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.request()
        await connection.send(b"nonsense\r\n\r\n")

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("POST", "/a", "Expect: 100-continue", "Content-Length: 4"))
        assert (await caller.response()).status == 100
        await caller.send(b"body")
        assert problem(await caller.response())["code"] == "upstream_protocol_error"


@pytest.mark.parametrize("where", ["trailers", "extension"])
async def test_endless_trailers_and_extensions_are_cut(where: str) -> None:
    """The limit of a head applies to them."""
    endless = b"0\r\nX: " if where == "trailers" else b"5;x="
    response = response_head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + endless + b"a" * (256 << 10)
    async with (
        MemoryUpstream(in_pieces(response, 8192)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)
        await sidekey.wait_for_outcomes("h", upstream_protocol_error=1)


async def test_a_response_that_ends_before_the_upload_closes_the_connection() -> None:
    """Sidekey reuses a connection only after two complete messages."""
    async with (
        MemoryUpstream(respond_with(OK, OK)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        for _ in range(2):
            assert (await sidekey.send(request("POST", body=b"x" * 100_000))).status == 200
        assert len(upstream.connections) == 1
        assert sidekey.metrics.upstream_idle == 1


def slowed(connection: RawConnection) -> None:
    """Stop reading, so that writes of the other end wait."""
    connection.transport.pause_reading()


async def test_slow_caller_slows_the_upstream() -> None:
    """Sidekey buffers a bounded part of the response, and all of it arrives in the end."""
    size = 4 << 20
    response = response_head(f"Content-Length: {size}") + b"x" * size

    async with (
        MemoryUpstream(serving(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        slowed(caller)
        await caller.send(get())
        connection = await upstream.connection()
        await eventually(lambda: sidekey.plane.worker.connections and connection.received)
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.full)
        assert held.transport.get_write_buffer_size() < 1 << 20
        assert connection.transport.get_write_buffer_size() > 0
        caller.transport.resume_reading()
        assert len((await caller.response()).body) == size
        await caller.send(get("/second"))
        assert (await caller.response()).body == b"ok"


async def test_connection_is_reused_while_the_caller_still_reads_the_response() -> None:
    """The upstream connection must read on for the next exchange."""
    size = 3 << 20
    response = response_head(f"Content-Length: {size}") + b"x" * size

    async with (
        MemoryUpstream(serving(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        slowed(caller)
        await caller.send(get())
        await eventually(lambda: sidekey.metrics.in_flight == 1)
        # Let the caller read a little at a time, until nothing but the end of the response waits here.
        while sidekey.metrics.in_flight:
            caller.transport.resume_reading()
            await caller.until_received(len(caller.received) + 1)
            slowed(caller)
        async with sidekey.connect() as other:
            await other.send(get("/second"))
            assert (await other.response()).body == b"ok"
        assert len(upstream.connections) == 1
        caller.transport.resume_reading()
        assert len((await caller.response()).body) == size
        await caller.send(get("/second"))
        assert (await caller.response()).body == b"ok"


async def test_slow_upstream_slows_the_caller() -> None:
    """Sidekey buffers a bounded part of the upload, and all of it arrives in the end."""
    size = 4 << 20
    go_on = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        slowed(connection)
        await go_on.wait()
        connection.transport.resume_reading()
        await connection.until(lambda: len(connection.received) >= size)
        await connection.request()
        await connection.send(OK)

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(request("POST", body=b"x" * size) + get("/second"))
        await upstream.connection()
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.exchange is not None and held.exchange._upstream is not None)
        assert held.exchange is not None
        active = held.exchange._upstream
        assert active is not None
        await eventually(lambda: active.transport.get_write_buffer_size() > 0)
        assert active.transport.get_write_buffer_size() < 1 << 20
        assert caller.transport.get_write_buffer_size() > 0
        go_on.set()
        assert (await caller.response()).status == 200


async def test_a_head_at_the_limit_passes() -> None:
    """limits.response_head limits the head, not the read that contains it."""
    response = response_head("X: " + "a" * 60_000, "Content-Length: 2") + b"ok"
    async with (
        MemoryUpstream(in_pieces(response, 1000)) as upstream,
        running(integration("h", base_url(upstream.port)), limits=Limits()) as sidekey,
    ):
        assert (await sidekey.send(get())).body == b"ok"
