"""One connection of a call: how responses are framed, what is refused, and when another call may follow."""

from __future__ import annotations

import asyncio
import gzip
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sidekey.credentials.base import Reply
from sidekey.network.http_connection import LARGEST_HEAD, HttpConnection, ResponseError
from support.leaks import nothing_left
from support.raw import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, Script, answering

REQUEST = b"GET / HTTP/1.1\r\nHost: up.test\r\n\r\n"
LARGEST = 1 << 10


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[HttpConnection]:
    """A connection to a server that plays the script; without TLS, the end of TCP stands for close_notify."""
    async with nothing_left(), RawUpstream(script) as upstream:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", upstream.port)
        try:
            yield connection
        finally:
            connection.abort()


async def answer_to(script: Script) -> tuple[Reply, float]:
    """The response, and how long its connection may be kept."""
    async with connected(script) as connection, asyncio.timeout(DEADLINE):
        reply = await connection.call(REQUEST, LARGEST)
        return reply, connection.keep_for


async def failure_of(script: Script) -> tuple[str, str]:
    """Outcome and reason of a response that cannot be used."""
    async with connected(script) as connection, asyncio.timeout(DEADLINE):
        with pytest.raises(ResponseError) as failed:
            await connection.call(REQUEST, LARGEST)
        assert not connection.keep_for
        return failed.value.outcome, failed.value.reason


def closing(answer: bytes, *, byte_by_byte: bool = False) -> Script:
    """Answer one request, in one piece or many, and close."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        for piece in (answer[at : at + 1] for at in range(len(answer))) if byte_by_byte else (answer,):
            await connection.send(piece)
            await asyncio.sleep(0)
        connection.close()

    return script


RESPONSES = pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", 200, b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 400 Bad\r\nContent-Length: 0\r\n\r\n", 400, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["length", "chunked", "until the end", "HTTP/1.0", "204", "304", "interim", "an upgrade is offered"],
)


@RESPONSES
@pytest.mark.parametrize("byte_by_byte", [False, True])
async def test_every_framing_is_read(answer: bytes, status: int, body: bytes, byte_by_byte: bool) -> None:
    """RFC 9112 6.3, however it is cut into segments."""
    reply, _ = await answer_to(closing(answer, byte_by_byte=byte_by_byte))
    assert (reply.status, reply.body) == (status, body)
    assert "link" not in reply.headers
    assert "x" not in reply.headers


@RESPONSES
async def test_a_response_that_is_cut_is_never_whole(answer: bytes, status: int, body: bytes) -> None:
    """Wherever it is cut, but for a body whose end is that of the connection."""
    for end in range(1, len(answer)):
        if answer.endswith(b"until the end") and b"\r\n\r\n" in answer[:end]:
            break
        outcome, reason = await failure_of(closing(answer[:end]))
        assert (outcome, reason) == ("invalid", "closed the connection in the middle of its response")


ZIPPED = gzip.compress(b'{"access_token": "tok-1"}', mtime=0)
NOT_GZIP = "returned a body that is not valid gzip"


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("coding", [b"gzip", b"GZip", b"x-gzip"])
@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ZIPPED), ZIPPED),
        b"\r\n" + ZIPPED,
    ],
    ids=["length", "chunked", "until the end"],
)
async def test_gzip_is_decoded_though_it_was_not_asked_for(framed: bytes, coding: bytes, byte_by_byte: bool) -> None:
    """RFC 9110 8.4.1.3, in every framing."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\n%b" % (coding, framed)
    reply, _ = await answer_to(closing(answer, byte_by_byte=byte_by_byte))
    assert reply.body == b'{"access_token": "tok-1"}'


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", b""),
        (b"HTTP/1.1 401 No\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_a_body_of_no_bytes_is_not_coded(answer: bytes, body: bytes) -> None:
    """Whatever the field says."""
    assert (await answer_to(closing(answer)))[0].body == body


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"zstd", b"gzip, gzip", b"identity, gzip", b""])
async def test_any_other_coding_is_an_error(coding: bytes) -> None:
    """It was not asked for, and is not guessed."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 2\r\n\r\nok" % coding
    reason = "returned a content coding other than gzip, which was not requested"
    assert await failure_of(closing(answer)) == ("invalid", reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"plain text", NOT_GZIP),
        (ZIPPED[:-1], NOT_GZIP),
        (ZIPPED[:-8], NOT_GZIP),
        (ZIPPED[:-1] + b"x", NOT_GZIP),
        (ZIPPED + b"x", NOT_GZIP),
        (ZIPPED * 2, NOT_GZIP),
        (gzip.compress(bytes(LARGEST)), ""),
        (gzip.compress(bytes(LARGEST + 1)), "returned more than 1 KiB"),
        (gzip.compress(bytes(4 << 20))[:LARGEST], "returned more than 1 KiB"),
    ],
    ids=["plain", "cut", "no trailer", "checksum", "tail", "two members", "as large as allowed", "larger", "bomb"],
)
@pytest.mark.parametrize("framed", [True, False])
async def test_a_coded_body_is_whole_and_within_the_limit(body: bytes, reason: str, framed: bool) -> None:
    """The limit is that of the decoded bytes, and nothing is made beyond it."""
    length = b"Content-Length: %d\r\n" % len(body) if framed else b""
    answer = closing(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n%b\r\n%b" % (length, body))
    if reason:
        assert await failure_of(answer) == ("invalid", reason)
    else:
        assert (await answer_to(answer))[0].body == bytes(LARGEST)


AMBIGUOUS = "returned a response whose length is ambiguous"
NOT_HTTP = "did not return an HTTP/1.1 response"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", AMBIGUOUS),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", AMBIGUOUS),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", AMBIGUOUS),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", NOT_HTTP),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", NOT_HTTP),
        (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", NOT_HTTP),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n", "returned more than 1 KiB"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1025), "returned more than 1 KiB"),
    ],
)
async def test_what_is_no_clear_response_is_an_error(answer: bytes, reason: str) -> None:
    """Nothing is repaired, and too long a body is not waited for."""
    assert await failure_of(answering(answer)) == ("invalid", reason)


def endless(begin: bytes, piece: bytes) -> Script:
    """Begin a response and never end it."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(begin)
        while True:
            await connection.send(piece)

    return script


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: %b\r\n" % bytes(b"x" * 999)),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"x" * 999),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 999),
    ],
    ids=["head", "interim responses", "trailer", "chunk extension"],
)
async def test_what_has_no_end_is_not_gathered(begin: bytes, piece: bytes) -> None:
    """Memory is bounded by more than the time of the call."""
    outcome, reason = await failure_of(endless(begin, piece))
    assert outcome == "invalid"
    assert reason in (f"returned more than {LARGEST_HEAD >> 10} KiB of header fields", NOT_HTTP)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (b"", math.inf),
        (b"Keep-Alive: timeout=5, max=100\r\n", 4.0),
        (b"keep-alive: max=1, Timeout=60\r\n", 59.0),
        (b"Keep-Alive: timeout=0\r\n", 0.0),
        (b"Keep-Alive: timeout=x\r\n", math.inf),
        (b"Connection: close\r\n", 0.0),
    ],
)
async def test_a_server_says_how_long_it_keeps_a_connection(fields: bytes, seconds: float) -> None:
    """Of what it announces a second is for the way."""
    answer = b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nok" % fields
    _, keep_for = await answer_to(answering(answer))
    assert keep_for == seconds


async def ended(connection: HttpConnection, event: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not event():
            await asyncio.sleep(0)


async def test_a_connection_is_quiet_until_something_arrives() -> None:
    """The kernel is asked, since the loop may not have been told yet; a call on one that has closed sends nothing."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await told.wait()
        connection.close()

    told = asyncio.Event()
    async with connected(script) as connection:
        await connection.call(REQUEST, LARGEST)
        assert connection.is_quiet()
        told.set()
        await ended(connection, lambda: not connection.is_quiet())
        for _ in range(10):
            await asyncio.sleep(0)
        with pytest.raises(ResponseError, match="closed the connection before it responded"):
            await connection.call(REQUEST, LARGEST)
