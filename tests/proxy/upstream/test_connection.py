"""A connection to an upstream: how answers are read, and which connections are used again."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.snapshot.request_rules import Limits
from support import wire
from support.memory import Upstream, running
from support.plane import base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, Script, answering

BIG = bytes(range(256)) * 12_000


def head(*fields: str, status: str = "200 OK") -> bytes:
    """A response's head."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


def chunks(*pieces: bytes) -> bytes:
    """A body in chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def in_pieces(answer: bytes, size: int) -> Script:
    """Answer each request in pieces, each sent when the loop has had a turn."""

    async def script(connection: RawConnection) -> None:
        while True:
            await connection.request()
            for at in range(0, len(answer), size):
                await connection.send(answer[at : at + size])
                await asyncio.sleep(0)

    return script


def serving(answer: bytes) -> Script:
    """Answer the target /api/second with OK, and every other one with `answer`."""

    async def script(connection: RawConnection) -> None:
        while True:
            message = await connection.request()
            await connection.send(OK if message.target == b"/api/second" else answer)

    return script


FRAMINGS = {
    "Content-Length": head(f"Content-Length: {len(BIG)}") + BIG,
    "chunked": head("Transfer-Encoding: chunked") + chunks(BIG[:1], BIG[1:70_000], BIG[70_000:]),
}


@pytest.mark.parametrize("size", [1 << 30, 65_537], ids=["one piece", "pieces"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("answer", FRAMINGS.values(), ids=FRAMINGS)
async def test_a_long_response_arrives_byte_for_byte(answer: bytes, version: str, size: int) -> None:
    """However it is framed and cut; and the upstream's connection serves the next request."""
    async with Upstream(in_pieces(answer, size)) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey:
            for _ in range(2):
                reply = await sidekey.ask(get(version=version))
                assert (reply.status, reply.body == BIG) == (200, True)
        assert [len(wire.requests(data)) for data in upstream.received] == [2]


@pytest.mark.parametrize("answer", [OK, head("Transfer-Encoding: chunked") + chunks(b"o", b"k")], ids=["CL", "chunked"])
async def test_a_response_in_single_bytes(answer: bytes) -> None:
    """No cut of a response into reads changes it."""
    async with (
        Upstream(in_pieces(answer, 1)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        assert (await sidekey.ask(get())).body == b"ok"


async def test_a_close_delimited_response_that_ends_in_a_reset_is_cut() -> None:
    """Over TCP only FIN completes such a response."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(head("Connection: close") + b"hello")
        await connection.until_contains(b"GET")
        (caller,) = sidekey.plane.worker.connections
        await eventually(lambda: caller.exchange is not None and caller.exchange._sent)
        connection.reset()

    async with (
        Upstream(script) as upstream,
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
async def test_bytes_after_a_response_are_never_taken_for_the_next_one(extra: bytes) -> None:
    """The caller gets the response that was asked for, and the next request gets its own."""
    first = head("Content-Length: 5") + b"first" + extra
    async with (
        Upstream(serving(first)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get() + get("/second"))
        assert [(await caller.response()).body for _ in range(2)] == [b"first", b"ok"]


async def test_bytes_on_an_idle_connection_end_it() -> None:
    """What comes unasked makes the connection unfit; the next request goes over a new one."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await asked.wait()
        await connection.send(OK)

    asked = asyncio.Event()
    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.ask(get())
        asked.set()
        await eventually(lambda: sidekey.metrics.upstream_open == 0)
        assert (await sidekey.ask(get())).body == b"ok"
        assert len(upstream.connections) == 2


@pytest.mark.parametrize("expects", [True, False])
async def test_100_continue_goes_to_the_caller_who_asked_for_it(expects: bool) -> None:
    """RFC 9110 10.1.1: 100 is for a request with the expectation; to another caller it would be noise."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.request()
        await connection.send(OK)

    async with Upstream(script) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            fields = ("Expect: 100-continue",) if expects else ()
            await caller.send(request("POST", "/a", *fields, "Content-Length: 4"))
            if expects:
                assert (await caller.response()).status == 100
            await caller.send(b"body")
            assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert (message.values(b"expect"), message.body) == ([b"100-continue"] if expects else [], b"body")


async def test_an_error_after_100_continue_is_answered() -> None:
    """An interim response is not the response: an error of the upstream after it is still 502."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await connection.request()
        await connection.send(b"nonsense\r\n\r\n")

    async with (
        Upstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("POST", "/a", "Expect: 100-continue", "Content-Length: 4"))
        assert (await caller.response()).status == 100
        await caller.send(b"body")
        assert problem(await caller.response())["code"] == "upstream_protocol_error"


@pytest.mark.parametrize("where", ["trailers", "extension"])
async def test_trailers_and_extensions_without_end_are_cut(where: str) -> None:
    """What carries no body is bounded like a head."""
    endless = b"0\r\nX: " if where == "trailers" else b"5;x="
    answer = head("Transfer-Encoding: chunked") + b"5\r\nhello\r\n" + endless + b"a" * (256 << 10)
    async with (
        Upstream(in_pieces(answer, 8192)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)
        await sidekey.outcomes("h", upstream_protocol_error=1)


async def test_a_response_that_ends_before_the_upload_closes_the_connection() -> None:
    """A connection is used again only where both messages are whole."""
    async with (
        Upstream(answering(OK, OK)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        for _ in range(2):
            assert (await sidekey.ask(request("POST", body=b"x" * 100_000))).status == 200
        assert len(upstream.connections) == 1
        assert sidekey.metrics.upstream_idle == 1


def slowed(connection: RawConnection) -> None:
    """Stop reading, so that the other end's writes pile up."""
    connection.transport.pause_reading()


async def test_a_slow_reader_holds_the_upstream_back() -> None:
    """What waits here for a caller who does not read stays bounded, and all of it arrives once they do."""
    size = 4 << 20
    answer = head(f"Content-Length: {size}") + b"x" * size

    async with (
        Upstream(serving(answer)) as upstream,
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


async def test_a_connection_whose_response_ended_before_a_slow_reader_is_used_again() -> None:
    """The caller is full when the last byte arrives: the upstream's connection must read on for the next exchange."""
    size = 3 << 20
    answer = head(f"Content-Length: {size}") + b"x" * size

    async with (
        Upstream(serving(answer)) as upstream,
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


async def test_a_slow_upstream_holds_the_caller_back() -> None:
    """What waits here of an upload stays bounded, and all of it arrives once the upstream reads."""
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
        Upstream(script) as upstream,
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
    """limits.response_head bounds the head, not the read it came in."""
    answer = head("X: " + "a" * 60_000, "Content-Length: 2") + b"ok"
    async with (
        Upstream(in_pieces(answer, 1000)) as upstream,
        running(integration("h", base_url(upstream.port)), limits=Limits()) as sidekey,
    ):
        assert (await sidekey.ask(get())).body == b"ok"
