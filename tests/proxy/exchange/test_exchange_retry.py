"""Sending a second time: what is sent again, and that nothing leaves with a grant that was replaced."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address

import pytest

from sidekey.credentials.base import CredentialTraits, Grant, InjectionPoints
from sidekey.errors import Problem, ProblemError
from sidekey.snapshot.request_rules import Limits
from support.memory import Upstream, running
from support.plane import FixedSource, base_url, eventually, integration, problem, request
from support.raw_connection import DEADLINE, RawConnection
from support.scripted import Awaited
from support.upstream import OK

TRAITS = CredentialTraits(InjectionPoints(headers=("Authorization",)), calls=True, watched=frozenset({401}))
OLD, NEW = (Grant(headers=(("Authorization", f"Bearer {word}"),)) for word in ("old", "new"))


class Lapsing(FixedSource):
    """A grant source whose grant lapses when the test says so; the next is NEW."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.asked = 0

    async def obtain(self) -> Grant:
        self.asked += 1
        self.grant = NEW
        return NEW


async def closing_second(connection: RawConnection) -> None:
    """Answer the first request of a connection, and close after the second."""
    await connection.request()
    await connection.send(OK)
    await connection.request()
    connection.transport.close()


@pytest.mark.parametrize("lapse", [True, False])
async def test_a_grant_that_lapses_while_a_connection_is_made_is_not_sent(lapse: bool) -> None:
    """The exchange takes the one that holds by then, and the connection that was made."""
    source, found = Lapsing(), threading.Event()

    def lookup(_: str) -> tuple[IPv4Address]:
        assert found.wait(DEADLINE)
        return (IPv4Address("127.0.0.1"),)

    async with Upstream() as upstream:
        made = integration("h", base_url(upstream.port), traits=TRAITS)
        options = {"sources": {"h": source}, "hosts": {"other.test": ("127.0.0.1",)}, "lookup": lookup}
        async with running(made, **options) as sidekey, sidekey.connect() as caller:
            await caller.send(request("POST", body=b"hello"))
            await eventually(lambda: sidekey.metrics.upstream_connecting == 1)
            source.grant = None if lapse else NEW
            found.set()
            assert (await caller.response()).status == 200
        (message,) = upstream.requests
        assert (message.values(b"authorization"), message.body) == ([b"Bearer new"], b"hello")
        assert (source.asked, len(upstream.connections)) == (int(lapse), 1)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_retry_on_a_new_connection_holds_the_newer_grant(kept: bool) -> None:
    """It is sent again if its body was kept. If it was not, the caller gets the loss of the connection."""
    source = Lapsing()
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

    async with Upstream(script) as upstream:
        made = integration("h", base_url(upstream.port), traits=TRAITS)
        limits = Limits() if kept else Limits(replay_body=4)
        async with running(made, sources={"h": source}, limits=limits) as sidekey, sidekey.connect() as caller:
            await caller.send(request("PUT", body=b""))
            assert (await caller.response()).status == 200
            await caller.send(request("PUT", body=b"hello"))
            answer = await caller.response()
        if kept:
            assert answer.status == 200
            assert [message.values(b"authorization") for message in upstream.requests] == [
                [b"Bearer old"],
                [b"Bearer old"],
                [b"Bearer new"],
            ]
            assert upstream.requests[2].body == b"hello"
        else:
            said = problem(answer)
            assert (said["code"], said["error"], said["sent"]) == (
                "upstream_protocol_error",
                "connection_terminated",
                "maybe",
            )
            assert said["detail"] == "the upstream closed the connection before it responded"
            assert len(upstream.requests) == 2


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_arrived_in_pieces_is_sent_again(framing: str) -> None:
    """All of it, on a new connection."""
    async with (
        Upstream(closing_second) as upstream,
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


async def test_a_retry_without_a_grant_says_that_the_request_may_have_been_sent() -> None:
    """The upstream may have acted on it, although the second attempt sent nothing."""
    source = Awaited(there=True)
    source.error = ProblemError(Problem("credential_unavailable", "no token"))
    source.go.set()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(OK)
        await connection.request()
        source.grant = None
        connection.transport.close()

    async with (
        Upstream(script) as upstream,
        running(integration("h", base_url(upstream.port)), sources={"h": source}) as sidekey,
        sidekey.connect() as caller,
    ):
        for _ in range(2):
            await caller.send(request("PUT", body=b"hello"))
            response = await caller.response()
        found = problem(response)
        assert (found["code"], found["sent"]) == ("credential_unavailable", "maybe")
