"""The req rows of tests/cases/faults.tsv, except slow callers."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.snapshot.request_rules import Limits
from support import wire
from support.memory import MemoryUpstream, running
from support.plane import base_url, forwarded, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import respond_with
from support.websocket import HANDSHAKE


async def test_half_closed_caller_has_left() -> None:
    """As documented, a half-close cancels the exchange and closes the upstream connection."""
    async with (
        MemoryUpstream(respond_with()) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await (await upstream.connection()).request()
        caller.transport.write_eof()
        assert await caller.until_ended() == b""
        await (await upstream.connection()).until_ended()
        await sidekey.wait_for_outcomes("h", caller_gone=1)


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("when", ["before the answer", "in the answer", "in the body"])
async def test_a_caller_that_leaves_ends_its_upstream_request(how: str, when: str) -> None:
    """Sidekey closes the upstream connection, and does not reuse it."""
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart"

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        if when == "in the answer":
            await connection.send(part)

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        sent = request("POST", body=b"x" * 10)
        await caller.send(sent[:-5] if when == "in the body" else sent)
        await (await upstream.connection()).until_contains(b"xxxxx")
        if when == "in the answer":
            await caller.until_contains(b"part")
        caller.close() if how == "closes" else caller.reset()
        await (await upstream.connection()).until_ended()
        await sidekey.wait_for_outcomes("h", caller_gone=1)
        assert sidekey.metrics.upstream_idle == 0


async def test_a_body_over_the_limit_is_refused_by_its_length() -> None:
    """413 before the upstream gets anything. The connection closes."""
    async with MemoryUpstream() as upstream:
        async with (
            running(integration("h", base_url(upstream.port)), limits=Limits(request_body=1000)) as sidekey,
            sidekey.connect() as caller,
        ):
            await caller.send(request("POST", "/a", "Content-Length: 1001") + b"x")
            response = await caller.response()
            error = problem(response)
            assert (error["status"], error["code"], error["sent"]) == (413, "request_too_large", "no")
            assert response.values(b"connection") == [b"close"]
            await caller.until_ended()
        assert upstream.connections == []


async def test_a_chunked_body_over_the_limit_is_cut() -> None:
    """413, and the request at the upstream is incomplete."""
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), limits=Limits(request_body=1000)) as sidekey:
            async with sidekey.connect() as caller:
                await caller.send(request("POST", "/a", "Transfer-Encoding: chunked"))
                await caller.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                await (await upstream.connection()).until_contains(b"xxx")
                await caller.send(b"1\r\nx\r\n0\r\n\r\n")
                error = problem(await caller.response())
                assert (error["status"], error["code"], error["sent"]) == (413, "request_too_large", "maybe")
                await caller.until_ended()
            await (await upstream.connection()).until_ended()
        assert wire.first_request(upstream.received[0]) is None


TOO_LARGE = {
    "a target": (get("/" + "a" * (17 << 10)), 414),
    "a target longer than the head may be": (get("/" + "a" * (70 << 10)), 414),
    "a header": (get("/a", "X: " + "a" * (70 << 10)), 431),
    "many headers": (get("/a", *(f"X-{n}: 1" for n in range(250))), 431),
    "a name": (get("/a", "X" * (70 << 10) + ": 1"), 431),
}


@pytest.mark.parametrize("piece", [1 << 20, 5000], ids=["whole", "in pieces"])
@pytest.mark.parametrize(("raw", "status"), TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_head_over_a_limit(raw: bytes, status: int, piece: int) -> None:
    """414 for the target, 431 for the rest. The connection closes."""
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for at in range(0, len(raw), piece):
                caller.transport.write(raw[at : at + piece])
                await asyncio.sleep(0)
            response = await caller.response()
            assert (response.status, problem(response)["code"]) == (status, "request_too_large")
            await caller.until_ended()
        assert upstream.connections == []


async def test_trailers_of_an_upload_are_dropped() -> None:
    """Chunks without trailers, and no field that announces them."""
    upload = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nAuthorization: evil\r\n\r\n"
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        raw = request("POST", "/a", "Transfer-Encoding: chunked", "Trailer: X-Sum") + upload
        assert (await sidekey.send(raw)).status == 200
        assert upstream.received == [
            forwarded(
                upstream.port,
                b"POST",
                b"/api/a",
                b"Transfer-Encoding: chunked",
                end=b"3\r\nabc\r\n0\r\n\r\n",
                word=sidekey.plane.worker.instance,
            )
        ]


async def test_an_upgrade_to_websocket_is_not_implemented() -> None:
    """501, a closed connection, and nothing at the upstream, unless the integration allows it."""
    raw = get("/a", *HANDSHAKE)
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            await caller.send(raw)
            response = await caller.response()
            assert (response.status, problem(response)["code"]) == (501, "not_implemented")
            assert await caller.until_ended() == bytes(caller.received[: caller.consumed])
        assert upstream.connections == []


async def test_te_is_not_forwarded() -> None:
    """Neither TE nor its name in Connection."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get("/a", "Connection: TE", "TE: trailers, deflate"))).status == 200
        assert upstream.received == [forwarded(upstream.port, word=sidekey.plane.worker.instance)]


async def test_max_forwards_ends_at_the_proxy() -> None:
    """Sidekey answers OPTIONS with 0, refuses TRACE, and decrements other values."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        last = await sidekey.send(request("OPTIONS", "/a", "Max-Forwards: 0"))
        assert (last.status, last.values(b"allow")) == (204, [b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"])
        trace = await sidekey.send(request("TRACE", "/a", "Max-Forwards: 0"))
        assert (trace.status, problem(trace)["code"]) == (405, "method_denied")
        assert upstream.connections == []
        assert (await sidekey.send(request("OPTIONS", "/a", "Max-Forwards: 7"))).status == 200
        assert (await sidekey.send(get("/a", "Max-Forwards: 7"))).status == 200
        assert [message.values(b"max-forwards") for message in upstream.requests] == [[b"6"], [b"7"]]


@pytest.mark.parametrize("piece", [1 << 30, 1000], ids=["in one piece", "in pieces"])
async def test_a_thousand_pipelined_requests_are_answered_in_order(piece: int) -> None:
    """One at a time, over one upstream connection. Sidekey reads only as many as its queue holds."""
    longest = 0

    async def script(connection: RawConnection) -> None:
        nonlocal longest
        while True:
            message = await connection.request()
            (caller,) = sidekey.plane.worker.connections
            longest = max(longest, len(caller._queue))
            body = message.target.rpartition(b"/")[2]
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    limits = Limits(pipelined=16)
    raw = b"".join(get(f"/{number}") for number in range(1000))
    async with MemoryUpstream(script) as upstream:
        async with (
            running(integration("h", base_url(upstream.port)), limits=limits) as sidekey,
            sidekey.connect() as caller,
        ):
            for at in range(0, len(raw), piece):
                await caller.send(raw[at : at + piece])
            bodies = [(await caller.response()).body for _ in range(1000)]
        assert bodies == [str(number).encode() for number in range(1000)]
        assert len(upstream.connections) == 1
        # A read of up to 4 KiB is parsed whole; 18 bytes are the shortest request.
        assert longest <= 4096 // 18


async def test_host_is_the_upstreams_and_forwarding_fields_are_unchanged() -> None:
    """X-Forwarded-For and -Proto pass, fields with another host are dropped, and nothing is added."""
    fields = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https")
    moving = ("Forwarded: for=1.2.3.4;host=a.test", "X-Forwarded-Host: a.test")
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get("/a", *fields, *moving))).status == 200
        raw = forwarded(
            upstream.port, b"GET", b"/api/a", *(f.encode() for f in fields), word=sidekey.plane.worker.instance
        )
        assert upstream.received == [raw]
