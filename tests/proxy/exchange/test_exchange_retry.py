"""Retries: which requests Sidekey sends again, and never with a replaced grant."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.request_rules import Limits
from support.memory import MemoryUpstream, running
from support.plane import FixedSource, base_url, eventually, integration, problem, request
from support.raw_connection import DEADLINE, RawConnection
from support.scripted import GatedGrantSource
from support.upstream import OK

TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))


class ExpiringSource(FixedSource):
    """A grant source whose grant expires on command. The next grant is NEW."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.asked = 0

    async def obtain(self) -> Grant:
        self.asked += 1
        self.grant = NEW
        return NEW


async def close_at_second_request(connection: RawConnection) -> None:
    """Respond to the first request of a connection, and close after the second."""
    await connection.request()
    await connection.send(OK)
    await connection.request()
    connection.transport.close()


@pytest.mark.parametrize("lapse", [True, False])
async def test_grant_that_expires_during_connect_is_not_sent(lapse: bool) -> None:
    """The exchange uses the current grant and the new connection."""
    source, result = ExpiringSource(), threading.Event()

    def lookup(_: str) -> tuple[IPv4Address]:
        assert result.wait(DEADLINE)
        return (IPv4Address("127.0.0.1"),)

    async with MemoryUpstream() as upstream:
        configured = integration("h", base_url(upstream.port), traits=TRAITS)
        options = {"sources": {"h": source}, "hosts": {"other.test": ("127.0.0.1",)}, "lookup": lookup}
        async with running(configured, **options) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", body=b"hello"))
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            source.grant = None if lapse else NEW
            result.set()
            assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert (message.values(b"authorization"), message.body) == ([b"Bearer new"], b"hello")
        assert (source.asked, len(upstream.connections)) == (int(lapse), 1)


@pytest.mark.parametrize("kept", [True, False])
async def test_retry_on_a_new_connection_has_the_newer_grant(kept: bool) -> None:
    """Without a buffered body, the caller gets 502 instead."""
    source = ExpiringSource()
    opened = 0

    async def script(connection: RawConnection) -> None:
        nonlocal opened
        opened += 1
        if opened == 1:
            await connection.request()
            await connection.send(OK)
            await connection.request()
            source.grant = NEW
            connection.transport.close()
            return
        await connection.request()
        await connection.send(OK)

    async with MemoryUpstream(script) as upstream:
        configured = integration("h", base_url(upstream.port), traits=TRAITS)
        limits = Limits() if kept else Limits(replay_body=4)
        async with running(configured, sources={"h": source}, limits=limits) as sidekey, sidekey.connect() as caller:
            await caller.send(request("PUT", body=b""))
            assert (await caller.response()).status == 200
            await caller.send(request("PUT", body=b"hello"))
            response = await caller.response()
        if kept:
            assert response.status == 200
            assert [message.values(b"authorization") for message in upstream.requests] == [
                [b"Bearer old"],
                [b"Bearer old"],
                [b"Bearer new"],
            ]
            assert upstream.requests[2].body == b"hello"
        else:
            error = problem(response)
            assert (error["code"], error["error"], error["sent"]) == (
                "upstream_protocol_error",
                "connection_terminated",
                "maybe",
            )
            assert error["detail"] == "the upstream closed the connection before it responded"
            assert len(upstream.requests) == 2


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_body_in_pieces_is_retried(framing: str) -> None:
    async with (
        MemoryUpstream(close_at_second_request) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("PUT", body=b"first"))
        assert (await caller.response()).status == 200
        pieces = (b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n") if framing == "chunked" else (b"ab", b"cd")
        fields = "Transfer-Encoding: chunked" if framing == "chunked" else "Content-Length: 4"
        await caller.send(request("PUT", "/a", fields))
        await eventually(lambda: upstream.received[0].count(b"/api/") == 2)
        for piece in pieces:
            await caller.send(piece)
        assert (await caller.response()).status == 200
        assert [message.body for message in upstream.requests] == [b"first", b"abcd", b"abcd"]


async def test_retry_without_a_grant_reports_sent_maybe() -> None:
    """The first attempt may have reached the upstream."""
    source = GatedGrantSource(available=True)
    source.error = ProblemError(Problem("credential_unavailable", "no token"))
    source.go.set()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        source.grant = None
        connection.transport.close()

    async with (
        MemoryUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(2):
            await caller.send(request("PUT", body=b"hello"))
            response = await caller.response()
        error = problem(response)
        assert (error["code"], error["sent"]) == ("credential_unavailable", "maybe")
