"""The resp rows of tests/cases/faults.tsv."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.framing import response_head
from support.memory import MemoryUpstream, running
from support.plane import base_url, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, Script, respond_with

BROKEN = {
    "CL and TE": response_head("Content-Length: 5", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "TE and CL": response_head("Transfer-Encoding: chunked", "Content-Length: 5") + b"5\r\nhello\r\n0\r\n\r\n",
    "two different CL": response_head("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "a list of CL": response_head("Content-Length: 5, 6") + b"hello!",
    "CL with a sign": response_head("Content-Length: +5") + b"hello",
    "NUL in a value": response_head("X: a\0b", "Content-Length: 0"),
    "bare CR in a value": response_head("X: a\rb", "Content-Length: 0"),
    "status 099": response_head("Content-Length: 0", status="099 Low"),
    "status 600": response_head("Content-Length: 0", status="600 High"),
    "status 999": response_head("Content-Length: 0", status="999 High"),
    "status of four digits": response_head("Content-Length: 0", status="2000 OK"),
    "407": response_head("Proxy-Authenticate: Basic", "Content-Length: 0", status="407 Proxy Authentication Required"),
    "a header of 64 KB": response_head("X: " + "a" * (64 << 10), "Content-Length: 0"),
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (256 << 10),
    "300 headers": response_head(*(f"X-{n}: 1" for n in range(300)), "Content-Length: 0"),
    "a coding besides chunked": response_head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "101 unasked": response_head("Connection: Upgrade", "Upgrade: websocket", status="101 Switching Protocols"),
    "not HTTP": b"220 smtp.test ESMTP\r\n",
    "space before the colon": response_head("X : 1", "Content-Length: 0"),
    "a folded line": response_head("X: 1", " 2", "Content-Length: 0"),
    "interim answers without end": response_head("X: " + "a" * 1000, status="103 Early Hints") * 100,
}


@pytest.mark.parametrize("response", BROKEN.values(), ids=BROKEN)
async def test_invalid_response_is_502(response: bytes) -> None:
    """502 upstream_protocol_error. The upstream connection closes, the caller's stays open."""
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            reply = await caller.response()
            error = problem(reply)
            assert (error["status"], error["code"], error["sent"]) == (502, "upstream_protocol_error", "maybe")
            assert error["error"] == "http_protocol_error"
            await (await upstream.connection()).until_ended()
            await caller.send(b"GET /nowhere HTTP/1.1\r\nHost: h.test\r\n\r\n")
            assert (await caller.response()).status == 404
        assert len(upstream.connections) == 1


async def send_twice(response: bytes, first: bytes = get()) -> tuple[list[wire.Message], list[int]]:
    """Send two requests on one connection. The upstream gives the first one this response.

    Return both responses, and the number of requests on each upstream connection.
    """
    async with (
        MemoryUpstream(serving(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(first)
            responses = [await caller.response(to_head=first.startswith(b"HEAD"))]
            await caller.send(get("/second"))
            responses.append(await caller.response())
        return responses, [len(wire.requests(data)) for data in upstream.received]


def serving(response: bytes) -> Script:
    """Build a script that responds OK to /api/second, and with this response to other targets."""

    async def script(connection: RawConnection) -> None:
        while True:
            request = await connection.request()
            await connection.send(OK if request.target == b"/api/second" else response)

    return script


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_that_ends_with_the_connection(version: str) -> None:
    """Complete, in chunks, or up to the close for HTTP/1.0."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello ")
        await connection.send(b"world")
        connection.close()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get(version=version))
            response = await caller.response()
            if version == "1.0":
                assert caller.ended
        assert (response.status, response.body) == (200, b"hello world")
        assert response.values(b"transfer-encoding") == ([b"chunked"] if version == "1.1" else [])
        assert response.values(b"connection") == ([] if version == "1.1" else [b"close"])


@pytest.mark.parametrize(
    "response",
    [
        response_head("Content-Length: 3", status="204 No Content") + b"abc",
        response_head(status="204 No Content") + b"abc",
    ],
    ids=["CL", "no CL"],
)
async def test_a_204_with_a_body(response: bytes) -> None:
    """The body does not reach the caller, and Sidekey does not reuse the connection."""
    (first, second), received = await send_twice(response)
    assert (first.status, first.body, first.values(b"content-length")) == (204, b"", [])
    assert (second.status, second.body) == (200, b"ok")
    assert received == [1, 1]


@pytest.mark.parametrize("status", ["304 Not Modified", "204 No Content"])
async def test_content_length_without_a_body_does_not_block(status: str) -> None:
    """The head is the complete response."""
    (first, second), _ = await send_twice(response_head("Content-Length: 20", 'ETag: "a"', status=status))
    assert (first.status, first.body, first.values(b"etag")) == (int(status[:3]), b"", [b'"a"'])
    assert (second.status, second.body) == (200, b"ok")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked", "X-None: 1"])
async def test_a_response_to_head_has_no_body(framing: str) -> None:
    """With Content-Length."""
    (first, second), received = await send_twice(response_head(framing), request("HEAD"))
    assert (first.status, first.body) == (200, b"")
    assert first.values(b"content-length") == ([b"1000"] if "1000" in framing else [])
    assert (second.status, second.body) == (200, b"ok")
    assert sum(received) == 2


@pytest.mark.parametrize(
    "interim",
    [
        response_head(status="100 Continue"),
        response_head("Link: </a>; rel=preload", status="103 Early Hints"),
        response_head(status="102 P") * 3,
    ],
    ids=["100", "103", "102"],
)
async def test_interim_responses_precede_one_final_response(interim: bytes) -> None:
    """The caller gets the final response without fields of interim ones."""
    (first, second), received = await send_twice(interim + OK)
    assert (first.status, first.body, first.values(b"link")) == (200, b"ok", [])
    assert (second.status, received) == (200, [2])


async def test_trailers_are_never_merged_into_the_head() -> None:
    """Sidekey drops them, announced or not. The body is complete."""
    response = (
        response_head("Transfer-Encoding: chunked", "Trailer: Set-Cookie")
        + b"3\r\nabc\r\n0\r\nSet-Cookie: a=b\r\nX: 1\r\n\r\n"
    )
    (first, _), received = await send_twice(response)
    assert (first.body, first.trailers) == (b"abc", ())
    assert {name for name, _ in first.fields} == {b"transfer-encoding", b"via"}
    assert received == [2]


async def test_hop_by_hop_fields_of_a_response_are_removed() -> None:
    """Fields named by Connection, Keep-Alive, Proxy-*, Upgrade, TE, Trailer. Others keep their order."""
    response = response_head(
        "X-First: 1",
        "Connection: keep-alive, X-Secret-Hop",
        "X-Secret-Hop: 1",
        "x_secret_hop: 2",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Proxy-Status: other; error=x",
        "Upgrade: h2c",
        "TE: trailers",
        "X-LAST:  2",
        "Content-Length: 2",
    )
    (first, _), _ = await send_twice(response + b"ok")
    assert [name for name, _ in first.fields] == [b"x-first", b"x-last", b"content-length", b"via"]


async def test_a_401_of_the_upstream_passes() -> None:
    """With WWW-Authenticate and body."""
    response = response_head("WWW-Authenticate: Bearer", "Content-Length: 2", status="401 Unauthorized") + b"no"
    (first, _), received = await send_twice(response)
    assert (first.status, first.values(b"www-authenticate"), first.body) == (401, [b"Bearer"], b"no")
    assert (first.values(b"proxy-status"), received) == ([], [2])


async def test_a_content_coding_passes_byte_for_byte() -> None:
    """Sidekey decodes nothing."""
    packed = gzip.compress(b"a" * 10_000)
    response = response_head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed
    (first, _), _ = await send_twice(response)
    assert (first.values(b"content-encoding"), first.body) == ([b"gzip"], packed)


async def test_two_set_cookie_fields_are_not_joined() -> None:
    response = response_head("Set-Cookie: a=1, b", "Set-Cookie: a=2", "Content-Length: 0")
    (first, _), _ = await send_twice(response)
    assert first.values(b"set-cookie") == [b"a=1, b", b"a=2"]


async def test_a_first_byte_that_never_comes() -> None:
    """504 at timeouts.response. The upstream connection closes."""
    async with (
        MemoryUpstream(respond_with()) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=Timeouts(response=0.3)) as sidekey,
    ):
        asking = asyncio.create_task(sidekey.send(get()))
        await (await upstream.connection()).until_contains(b"\r\n\r\n")
        sidekey.advance(0.2)
        assert not asking.done()
        sidekey.advance(0.2)
        error = problem(await asking)
        assert (error["status"], error["code"], error["error"], error["sent"]) == (
            504,
            "upstream_timeout",
            "http_response_timeout",
            "maybe",
        )
        await (await upstream.connection()).until_ended()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked", "Connection: close"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_that_stalls_is_cut(framing: str, version: str) -> None:
    """A reset at timeouts.idle shows that the response is incomplete."""
    part = b"5\r\nhello\r\n" if "chunked" in framing else b"hello"
    async with (
        MemoryUpstream(respond_with(response_head(framing) + part)) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=Timeouts(idle=0.3)) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get(version=version))
            await caller.until_contains(b"hello")
            sidekey.advance(0.2)
            assert sidekey.metrics.in_flight == 1
            sidekey.advance(0.2)
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await (await upstream.connection()).until_ended()
        await sidekey.wait_for_outcomes("h", upstream_timeout=1)


async def test_a_dribbled_response_ends_at_the_total_timeout() -> None:
    """Each byte restarts timeouts.idle, but timeouts.total ends it."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response_head("Content-Length: 1000000"))
        while not connection.lost:
            await connection.send(b"x")
            await asyncio.sleep(0)
            # Well within the idle time-out.
            sidekey.advance(0.25)

    timeouts = Timeouts(idle=0.4, total=1.0)
    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await sidekey.wait_for_outcomes("h", upstream_timeout=1)
        assert wire.first_response(bytes(caller.received)) is None


async def test_a_body_whose_upstream_closes_too_early_is_cut() -> None:
    """A response shorter than its Content-Length must not look complete."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response_head("Content-Length: 100") + b"hello")
        connection.close()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await sidekey.wait_for_outcomes("h", upstream_protocol_error=1)
