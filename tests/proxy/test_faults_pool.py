"""The pool rows of tests/cases/faults.tsv."""

from __future__ import annotations

import pytest

from support import wire
from support.memory import MemoryUpstream, running
from support.plane import base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, respond_with

POST = request("POST", body=b"order")


@pytest.mark.parametrize("again", [get(), POST], ids=["GET", "POST"])
async def test_a_connection_closed_while_idle_is_not_used(again: bytes) -> None:
    """A new connection serves the request."""

    async def once(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        connection.close()

    async with MemoryUpstream(once) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).status == 200
        await eventually(lambda: sidekey.metrics.upstream_idle == 0)
        assert (await sidekey.send(again)).status == 200
        assert len(upstream.connections) == 2


async def closes_second(connection: RawConnection) -> None:
    """Respond to the first request of a connection, and close at the second."""
    await connection.request()
    await connection.send(OK)
    await connection.request()
    connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_an_idempotent_request_on_a_connection_that_just_closed_is_repeated(method: str) -> None:
    """A reused connection closed before the first byte of the response, so Sidekey retries once."""
    async with MemoryUpstream(closes_second) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get("/first"))).status == 200
        assert (await sidekey.send(request(method))).status == 200
        targets = [[message.target for message in wire.requests(data)] for data in upstream.received]
        assert targets == [[b"/api/first", b"/api/a"], [b"/api/a"]]


async def test_a_request_that_may_have_taken_effect_is_not_repeated() -> None:
    """The upstream may have processed a POST: 502, sent: maybe."""
    async with MemoryUpstream(closes_second) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).status == 200
        error = problem(await sidekey.send(POST))
        assert (error["status"], error["code"], error["error"], error["sent"]) == (
            502,
            "upstream_protocol_error",
            "connection_terminated",
            "maybe",
        )
        assert len(upstream.connections) == 1


async def test_a_request_is_repeated_once_only() -> None:
    """The new connection closes, too: 502."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection is upstream.connections[0]:
            await connection.send(OK)
            await connection.request()
        connection.close()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.send(get())).status == 200
        assert problem(await sidekey.send(get()))["error"] == "connection_terminated"
        assert len(upstream.connections) == 2


async def test_a_fresh_connection_that_closes_is_not_tried_again() -> None:
    """It would close again."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        connection.close()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert problem(await sidekey.send(get()))["error"] == "connection_terminated"
        assert len(upstream.connections) == 1


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
async def test_a_reset_in_the_middle_of_the_head_is_never_retried(reused: bool) -> None:
    """502, and one request at the upstream."""

    async def script(connection: RawConnection) -> None:
        if reused:
            await connection.request()
            await connection.send(OK)
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        await eventually(lambda: True)
        connection.reset()

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        if reused:
            assert (await sidekey.send(get())).status == 200
        error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["sent"]) == (502, "upstream_protocol_error", "maybe")
        assert len(upstream.connections) == 1


async def test_a_response_that_closes_its_connection() -> None:
    """Sidekey obeys `Connection: close`, and keeps the caller's connection."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with MemoryUpstream(respond_with(closing, OK)) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for _ in range(2):
                await caller.send(get())
                response = await caller.response()
                assert (response.status, response.values(b"connection")) == (200, [])
            await (await upstream.connection(0)).until_ended()
        assert [len(wire.requests(data)) for data in upstream.received] == [1, 1]


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"401 Unauthorized"])
async def test_early_response_is_forwarded(status: bytes) -> None:
    """While the upload is incomplete. Both connections close."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nearly")

    async with MemoryUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(b"POST /i/h/a HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100000\r\n\r\nfirst")
            response = await caller.response()
            assert (response.status, response.body) == (int(status[:3]), b"early")
            assert response.values(b"connection") == [b"close"]
            await caller.until_ended()
        await (await upstream.connection()).until_ended()
        assert wire.first_request(upstream.received[0]) is None
        assert sidekey.metrics.upstream_idle == 0
