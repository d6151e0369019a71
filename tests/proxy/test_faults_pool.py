"""The pool rows of tests/cases/faults.tsv."""

from __future__ import annotations

import pytest

from support import wire
from support.memory import Upstream, running
from support.plane import base_url, eventually, get, integration, problem, request
from support.raw_connection import RawConnection
from support.upstream import OK, answering

POST = request("POST", body=b"order")


@pytest.mark.parametrize("again", [get(), POST], ids=["GET", "POST"])
async def test_f14_a_connection_closed_while_idle_is_not_used(again: bytes) -> None:
    """F14: the request goes over a new connection and the caller sees 200."""

    async def once(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        connection.close()

    async with Upstream(once) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).status == 200
        await eventually(lambda: sidekey.metrics.upstream_idle == 0)
        assert (await sidekey.ask(again)).status == 200
        assert len(upstream.connections) == 2


async def closes_second(connection: RawConnection) -> None:
    """Answers the first request of a connection and closes at the second."""
    await connection.request()
    await connection.send(OK)
    await connection.request()
    connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_f14_an_idempotent_request_on_a_connection_that_just_closed_is_repeated(method: str) -> None:
    """F14: a reused connection closed before a byte of response, so the request is sent again, once."""
    async with Upstream(closes_second) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get("/first"))).status == 200
        assert (await sidekey.ask(request(method))).status == 200
        targets = [[message.target for message in wire.requests(data)] for data in upstream.received]
        assert targets == [[b"/api/first", b"/api/a"], [b"/api/a"]]


async def test_f14_a_request_that_may_have_taken_effect_is_not_repeated() -> None:
    """Never 3: a POST that the upstream may have acted on is answered 502, sent: maybe."""
    async with Upstream(closes_second) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).status == 200
        said = problem(await sidekey.ask(POST))
        assert (said["status"], said["code"], said["error"], said["sent"]) == (
            502,
            "upstream_protocol_error",
            "connection_terminated",
            "maybe",
        )
        assert len(upstream.connections) == 1


async def test_f14_a_request_is_repeated_once_only() -> None:
    """The new connection closes as well: 502."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if connection is upstream.connections[0]:
            await connection.send(OK)
            await connection.request()
        connection.close()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert (await sidekey.ask(get())).status == 200
        assert problem(await sidekey.ask(get()))["error"] == "connection_terminated"
        assert len(upstream.connections) == 2


async def test_f14_a_fresh_connection_that_closes_is_not_tried_again() -> None:
    """What closes at the first request it gets will close at the next one too."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        connection.close()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        assert problem(await sidekey.ask(get()))["error"] == "connection_terminated"
        assert len(upstream.connections) == 1


@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
async def test_f17_a_reset_in_the_middle_of_the_head_is_never_retried(reused: bool) -> None:
    """F17: 502, the request was sent once."""

    async def script(connection: RawConnection) -> None:
        if reused:
            await connection.request()
            await connection.send(OK)
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
        await eventually(lambda: True)
        connection.reset()

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        if reused:
            assert (await sidekey.ask(get())).status == 200
        said = problem(await sidekey.ask(get()))
        assert (said["status"], said["code"], said["sent"]) == (502, "upstream_protocol_error", "maybe")
        assert len(upstream.connections) == 1


async def test_f18_a_response_that_closes_its_connection() -> None:
    """F18: `Connection: close` is followed, and does not close the caller's connection."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with Upstream(answering(closing, OK)) as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for _ in range(2):
                await caller.send(get())
                answer = await caller.response()
                assert (answer.status, answer.values(b"connection")) == (200, [])
            await (await upstream.connection(0)).until_ended()
        assert [len(wire.requests(data)) for data in upstream.received] == [1, 1]


@pytest.mark.parametrize("status", [b"413 Content Too Large", b"401 Unauthorized"])
async def test_f20_an_early_response_is_passed_on(status: bytes) -> None:
    """F20: the response comes through while the body is not complete; both connections end, the upload incomplete."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\n\r\nearly")

    async with Upstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(b"POST /i/h/a HTTP/1.1\r\nHost: h.test\r\nContent-Length: 100000\r\n\r\nfirst")
            answer = await caller.response()
            assert (answer.status, answer.body) == (int(status[:3]), b"early")
            assert answer.values(b"connection") == [b"close"]
            await caller.until_ended()
        await (await upstream.connection()).until_ended()
        assert wire.first_request(upstream.received[0]) is None
        assert sidekey.metrics.upstream_idle == 0
