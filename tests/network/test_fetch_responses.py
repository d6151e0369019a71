"""Responses to Sidekey's own calls: framing, decoding and refusals."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

import pytest

from sidekey.credentials.base import Call, CallError, Reply
from sidekey.network.dial import Dialer
from sidekey.network.fetch import Fetcher
from sidekey.snapshot.egress import Egress
from support.dialling import RULES
from support.leak_check import assert_no_leaks
from support.raw_connection import DEADLINE, RawConnection
from support.upstream import OK, RawUpstream, Script

LARGEST = 1 << 10
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_HTTP = "did not return a valid HTTP/1.1 response"
NOT_GZIP = "returned a body that is not valid gzip"
CUT = "closed the connection in the middle of its response"
AMBIGUOUS = "returned a response whose length is ambiguous"
TOO_LARGE = "returned more than 1 KiB"


async def reply_to(script: Script) -> Reply:
    """Call a local server that follows the script, without TLS. Nothing may be left open."""
    async with assert_no_leaks(), RawUpstream(script) as upstream:
        return await Fetcher(Dialer(RULES), 16).fetch(
            Call("login", "GET", f"http://127.0.0.1:{upstream.port}/token"),
            Egress(),
            timeout=DEADLINE,
            max_size=LARGEST,
        )


async def failure_of(script: Script) -> tuple[str, str]:
    """Return outcome and reason, which starts with the step."""
    with pytest.raises(CallError) as failed:
        await reply_to(script)
    assert not failed.value.unspent
    step, _, reason = failed.value.reason.partition(" ")
    assert step == "login"
    return failed.value.outcome, reason


def whole(response: bytes) -> list[bytes]:
    return [response]


def byte_by_byte(response: bytes) -> list[bytes]:
    return [response[at : at + 1] for at in range(len(response))]


Cut = Callable[[bytes], list[bytes]]


def closing(response: bytes, cut: Cut = whole) -> Script:
    """Respond to one request in pieces, and close."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        for piece in cut(response):
            await connection.send(piece)
            await asyncio.sleep(0)
        connection.close()

    return script


CUTS = pytest.mark.parametrize("cut", [whole, byte_by_byte])
RESPONSES = pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (CHUNKED + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", 200, b"abc"),
        (HEAD + b"\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.0 400 Bad\r\nContent-Length: 0\r\n\r\n", 400, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["length", "chunked", "until the end", "HTTP/1.0", "204", "304", "interim", "an upgrade is offered"],
)


@RESPONSES
@CUTS
async def test_every_framing_is_parsed(answer: bytes, status: int, body: bytes, cut: Cut) -> None:
    """RFC 9112 6.3, in any segmentation."""
    reply = await reply_to(closing(answer, cut))
    assert (reply.status, reply.body) == (status, body)
    assert "link" not in reply.headers
    assert "x" not in reply.headers


@RESPONSES
async def test_truncated_response_is_never_complete(answer: bytes, status: int, body: bytes) -> None:
    """Except a close-delimited body."""
    for end in range(1, len(answer)):
        if answer.endswith(b"until the end") and b"\r\n\r\n" in answer[:end]:
            break
        assert await failure_of(closing(answer[:end])) == ("invalid", CUT)


@pytest.mark.parametrize("response", [b"", HEAD, HEAD + b"\r\nuntil", HEAD + b"Content-Length: 9\r\n\r\nsome", CHUNKED])
async def test_reset_never_completes_a_response(response: bytes) -> None:
    """Not even a close-delimited body."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response)
        connection.reset()

    expected = ("invalid", CUT) if response else ("unreachable", "closed the connection before it responded")
    assert await failure_of(script) == expected


ZIPPED = gzip.compress(b'{"access_token": "tok-1"}', mtime=0)


@CUTS
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
async def test_unrequested_gzip_is_decoded(framed: bytes, coding: bytes, cut: Cut) -> None:
    """RFC 9110 8.4.1.3, in every framing."""
    response = HEAD + b"Content-Encoding: %b\r\n%b" % (coding, framed)
    assert (await reply_to(closing(response, cut))).body == b'{"access_token": "tok-1"}'


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", b""),
        (b"HTTP/1.1 401 No\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
        (HEAD + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_empty_body_is_not_decoded(response: bytes, body: bytes) -> None:
    assert (await reply_to(closing(response))).body == body


@pytest.mark.parametrize("coding", [b"br", b"deflate", b"zstd", b"gzip, gzip", b"identity, gzip", b""])
async def test_other_content_coding_is_an_error(coding: bytes) -> None:
    response = HEAD + b"Content-Encoding: %b\r\nContent-Length: 2\r\n\r\nok" % coding
    reason = "returned a content coding other than gzip, which was not requested"
    assert await failure_of(closing(response)) == ("invalid", reason)


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
        (gzip.compress(bytes(LARGEST + 1)), TOO_LARGE),
        (gzip.compress(bytes(4 << 20))[:LARGEST], TOO_LARGE),
    ],
    ids=["plain", "cut", "no trailer", "checksum", "tail", "two members", "as large as allowed", "larger", "bomb"],
)
@pytest.mark.parametrize("framed", [True, False])
async def test_gzip_body_is_complete_and_within_the_limit(body: bytes, reason: str, framed: bool) -> None:
    """The limit applies to the decoded bytes."""
    length = b"Content-Length: %d\r\n" % len(body) if framed else b""
    response = closing(HEAD + b"Content-Encoding: gzip\r\n%b\r\n%b" % (length, body))
    if reason:
        assert await failure_of(response) == ("invalid", reason)
    else:
        assert (await reply_to(response)).body == bytes(LARGEST)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\nx", AMBIGUOUS),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", AMBIGUOUS),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", NOT_HTTP),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", NOT_HTTP),
        (HEAD + b"Content-Length: +2\r\n\r\nok", NOT_HTTP),
        (HEAD + b"Content-Length: 99999999999999999999\r\n\r\nok", NOT_HTTP),
        (b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", NOT_HTTP),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", NOT_HTTP),
        (b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
        (HEAD + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n", NOT_HTTP),
        (HEAD + b"Content-Length: 1025\r\n\r\n", TOO_LARGE),
        (HEAD + b"\r\n" + bytes(1025), TOO_LARGE),
        (CHUNKED + b"401\r\n%b\r\n" % bytes(1025), TOO_LARGE),
    ],
)
async def test_ambiguous_or_invalid_response_is_an_error(response: bytes, reason: str) -> None:
    """The call does not wait for the rest of a long body."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response)

    assert await failure_of(script) == ("invalid", reason)


@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (CHUNKED, b"zz\r\n"),
        (CHUNKED, b"-1\r\n"),
        (CHUNKED + b"2\r\nok\r\n", b"zz\r\n"),
        (CHUNKED, b"2\r\nokX\r\n"),
        (CHUNKED + b"2\r\nok\r\n0\r\n", b"a\0: b\r\n\r\n"),
        (CHUNKED + b"2\r\nok\r\n0\r\n", b"a: b\r\n" * 200),
        (HEAD, b"\0\0\r\n"),
    ],
)
async def test_malformed_rest_of_a_response_fails_at_once(begin: bytes, rest: bytes) -> None:
    """Not only at the timeout."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(begin)
        # Until the first part was read by itself.
        await asyncio.sleep(0.05)
        await connection.send(rest)

    async with asyncio.timeout(DEADLINE / 2):
        assert await failure_of(script) == ("invalid", NOT_HTTP)


async def test_early_response_belongs_to_its_connections_only_call() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly" + OK)

    assert (await reply_to(script)).body == b"early"
