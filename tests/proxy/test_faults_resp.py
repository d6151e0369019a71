"""The resp rows of tests/cases/faults.tsv."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from sidekey.snapshot.request_rules import Timeouts
from support import wire
from support.memory import Upstream, running
from support.plane import base_url, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, Script, answering


def head(*fields: str, status: str = "200 OK") -> bytes:
    """A response's head."""
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1")


BROKEN = {
    "F26 CL and TE": head("Content-Length: 5", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    "F26 TE and CL": head("Transfer-Encoding: chunked", "Content-Length: 5") + b"5\r\nhello\r\n0\r\n\r\n",
    "F27 two different CL": head("Content-Length: 5", "Content-Length: 6") + b"hello!",
    "F27 a list of CL": head("Content-Length: 5, 6") + b"hello!",
    "F27 CL with a sign": head("Content-Length: +5") + b"hello",
    "F29 NUL in a value": head("X: a\0b", "Content-Length: 0"),
    "F29 bare CR in a value": head("X: a\rb", "Content-Length: 0"),
    "F38 status 099": head("Content-Length: 0", status="099 Low"),
    "F38 status 600": head("Content-Length: 0", status="600 High"),
    "F38 status 999": head("Content-Length: 0", status="999 High"),
    "F38 status of four digits": head("Content-Length: 0", status="2000 OK"),
    "F42 407": head("Proxy-Authenticate: Basic", "Content-Length: 0", status="407 Proxy Authentication Required"),
    "F45 a header of 64 KB": head("X: " + "a" * (64 << 10), "Content-Length: 0"),
    "F45 a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (256 << 10),
    "F45 300 headers": head(*(f"X-{n}: 1" for n in range(300)), "Content-Length: 0"),
    "a coding besides chunked": head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "101 unasked": head("Connection: Upgrade", "Upgrade: websocket", status="101 Switching Protocols"),
    "not HTTP": b"220 smtp.test ESMTP\r\n",
    "space before the colon": head("X : 1", "Content-Length: 0"),
    "a folded line": head("X: 1", " 2", "Content-Length: 0"),
    "interim answers without end": head("X: " + "a" * 1000, status="103 Early Hints") * 100,
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_a_response_that_is_not_valid_is_502(answer: bytes) -> None:
    """502 upstream_protocol_error, whatever the error; the connection to that upstream ends, the caller's stays."""
    async with (
        Upstream(answering(answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            reply = await caller.response()
            said = problem(reply)
            assert (said["status"], said["code"], said["sent"]) == (502, "upstream_protocol_error", "maybe")
            assert said["error"] == "http_protocol_error"
            await (await upstream.connection()).until_ended()
            await caller.send(b"GET /nowhere HTTP/1.1\r\nHost: h.test\r\n\r\n")
            assert (await caller.response()).status == 404
        assert len(upstream.connections) == 1


async def ask_twice(answer: bytes, first: bytes = get()) -> tuple[list[wire.Message], list[int]]:
    """The responses to two requests on one connection of a caller; the first is answered with `answer`.

    And how many requests arrived on each upstream connection.
    """
    async with Upstream(serving(answer)) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(first)
            answers = [await caller.response(to_head=first.startswith(b"HEAD"))]
            await caller.send(get("/second"))
            answers.append(await caller.response())
        return answers, [len(wire.requests(data)) for data in upstream.received]


def serving(answer: bytes) -> Script:
    """Answer the target /api/second with OK, and every other one with `answer`."""

    async def script(connection: RawConnection) -> None:
        while True:
            request = await connection.request()
            await connection.send(OK if request.target == b"/api/second" else answer)

    return script


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_f30_a_body_that_ends_with_the_connection(version: str) -> None:
    """F30: complete, and framed again: in chunks, or to an HTTP/1.0 caller by the end of its connection."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello ")
        await connection.send(b"world")
        connection.close()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get(version=version))
            answer = await caller.response()
            if version == "1.0":
                assert caller.ended
        assert (answer.status, answer.body) == (200, b"hello world")
        assert answer.values(b"transfer-encoding") == ([b"chunked"] if version == "1.1" else [])
        assert answer.values(b"connection") == ([] if version == "1.1" else [b"close"])


@pytest.mark.parametrize(
    "answer",
    [head("Content-Length: 3", status="204 No Content") + b"abc", head(status="204 No Content") + b"abc"],
    ids=["CL", "no CL"],
)
async def test_f31_a_204_with_a_body(answer: bytes) -> None:
    """F31: the body does not reach the caller and the connection is not used again."""
    (first, second), arrived = await ask_twice(answer)
    assert (first.status, first.body, first.values(b"content-length")) == (204, b"", [])
    assert (second.status, second.body) == (200, b"ok")
    assert arrived == [1, 1]


@pytest.mark.parametrize("status", ["304 Not Modified", "204 No Content"])
async def test_f32_a_content_length_without_a_body_is_not_waited_for(status: str) -> None:
    """F32: the response is complete with its head."""
    (first, second), _ = await ask_twice(head("Content-Length: 20", 'ETag: "a"', status=status))
    assert (first.status, first.body, first.values(b"etag")) == (int(status[:3]), b"", [b'"a"'])
    assert (second.status, second.body) == (200, b"ok")


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked", "X-None: 1"])
async def test_f33_a_response_to_head_has_no_body(framing: str) -> None:
    """F33: Content-Length is kept, nothing is waited for."""
    (first, second), arrived = await ask_twice(head(framing), request("HEAD"))
    assert (first.status, first.body) == (200, b"")
    assert first.values(b"content-length") == ([b"1000"] if "1000" in framing else [])
    assert (second.status, second.body) == (200, b"ok")
    assert sum(arrived) == 2


@pytest.mark.parametrize(
    "interim",
    [head(status="100 Continue"), head("Link: </a>; rel=preload", status="103 Early Hints"), head(status="102 P") * 3],
    ids=["F34 100", "F35 103", "102"],
)
async def test_interim_responses_precede_one_final_response(interim: bytes) -> None:
    """F34, F35: the caller gets the final response, and no header of an interim one."""
    (first, second), arrived = await ask_twice(interim + OK)
    assert (first.status, first.body, first.values(b"link")) == (200, b"ok", [])
    assert (second.status, arrived) == (200, [2])


async def test_f39_trailers_are_never_merged_into_the_head() -> None:
    """F39: trailers are dropped, announced or not, and the body is whole."""
    answer = (
        head("Transfer-Encoding: chunked", "Trailer: Set-Cookie") + b"3\r\nabc\r\n0\r\nSet-Cookie: a=b\r\nX: 1\r\n\r\n"
    )
    (first, _), arrived = await ask_twice(answer)
    assert (first.body, first.trailers) == (b"abc", ())
    assert {name for name, _ in first.fields} == {b"transfer-encoding", b"via"}
    assert arrived == [2]


async def test_f40_hop_by_hop_fields_of_a_response_end_here() -> None:
    """F40: what Connection names, and Keep-Alive, Proxy-*, Upgrade, TE, Trailer; the rest stays as it is, in order."""
    answer = head(
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
    (first, _), _ = await ask_twice(answer + b"ok")
    assert [name for name, _ in first.fields] == [b"x-first", b"x-last", b"content-length", b"via"]


async def test_f42_a_401_of_the_upstream_passes() -> None:
    """F42: with its WWW-Authenticate and its body."""
    answer = head("WWW-Authenticate: Bearer", "Content-Length: 2", status="401 Unauthorized") + b"no"
    (first, _), arrived = await ask_twice(answer)
    assert (first.status, first.values(b"www-authenticate"), first.body) == (401, [b"Bearer"], b"no")
    assert (first.values(b"proxy-status"), arrived) == ([], [2])


async def test_f43_a_content_coding_passes_byte_for_byte() -> None:
    """F43: nothing is decompressed."""
    packed = gzip.compress(b"a" * 10_000)
    answer = head("Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed
    (first, _), _ = await ask_twice(answer)
    assert (first.values(b"content-encoding"), first.body) == ([b"gzip"], packed)


async def test_f44_two_cookies_stay_two() -> None:
    """F44: Set-Cookie is never joined."""
    answer = head("Set-Cookie: a=1, b", "Set-Cookie: a=2", "Content-Length: 0")
    (first, _), _ = await ask_twice(answer)
    assert first.values(b"set-cookie") == [b"a=1, b", b"a=2"]


async def test_f48_a_first_byte_that_never_comes() -> None:
    """F48: 504 at the response time-out; the upstream's connection ends."""
    async with (
        Upstream(answering()) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=Timeouts(response=0.3)) as sidekey,
    ):
        asking = asyncio.create_task(sidekey.ask(get()))
        await (await upstream.connection()).until_contains(b"\r\n\r\n")
        sidekey.wait(0.2)
        assert not asking.done()
        sidekey.wait(0.2)
        said = problem(await asking)
        assert (said["status"], said["code"], said["error"], said["sent"]) == (
            504,
            "upstream_timeout",
            "http_response_timeout",
            "maybe",
        )
        await (await upstream.connection()).until_ended()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked", "Connection: close"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_f49_a_body_that_stalls_is_cut(framing: str, version: str) -> None:
    """F49: the idle time-out ends it, and a reset shows that the response is not whole."""
    part = b"5\r\nhello\r\n" if "chunked" in framing else b"hello"
    async with (
        Upstream(answering(head(framing) + part)) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=Timeouts(idle=0.3)) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get(version=version))
            await caller.until_contains(b"hello")
            sidekey.wait(0.2)
            assert sidekey.metrics.in_flight == 1
            sidekey.wait(0.2)
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await (await upstream.connection()).until_ended()
        await sidekey.outcomes("h", upstream_timeout=1)


async def test_f50_a_dribbled_response_ends_at_the_total_timeout() -> None:
    """F50: each byte moves the idle time-out on; timeouts.total ends it all the same."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(head("Content-Length: 1000000"))
        while not connection.lost:
            await connection.send(b"x")
            await asyncio.sleep(0)
            # Well within the idle time-out.
            sidekey.wait(0.25)

    timeouts = Timeouts(idle=0.4, total=1.0)
    async with (
        Upstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=timeouts) as sidekey,
    ):
        async with sidekey.connect() as caller:
            await caller.send(get())
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await sidekey.outcomes("h", upstream_timeout=1)
        assert wire.first_response(bytes(caller.received)) is None


async def test_a_body_whose_upstream_closes_too_early_is_cut() -> None:
    """A response shorter than its Content-Length never looks complete."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(head("Content-Length: 100") + b"hello")
        connection.close()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(get())
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
        await sidekey.outcomes("h", upstream_protocol_error=1)
