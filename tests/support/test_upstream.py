"""The scripted upstream and the recording connection."""

from __future__ import annotations

import pytest

from support.ca import Authority
from support.raw import Gone, RawConnection, connect
from support.upstream import OK, RawUpstream, answering

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_answers_follow_the_script() -> None:
    """Each request gets the next answer, and every byte that arrived is on record."""
    async with RawUpstream(answering(OK, b"HTTP/1.1 204 No Content\r\n\r\n")) as upstream:
        async with connect(upstream.port) as caller:
            await caller.send(REQUEST + REQUEST)
            assert [(await caller.response()).status for _ in range(2)] == [200, 204]
        assert upstream.received == [REQUEST + REQUEST]
        assert [message.target for message in upstream.requests] == [b"/", b"/"]


async def test_tls_is_spoken_with_a_certificate_of_the_session_ca(ca: Authority) -> None:
    """A caller that trusts the CA's bundle reads the answer."""
    async with (
        RawUpstream(ssl_context=ca.server_context("127.0.0.1")) as upstream,
        connect(upstream.port, ssl_context=ca.client_context()) as caller,
    ):
        await caller.send(REQUEST)
        assert (await caller.response()).body == b"ok"


async def test_an_answer_framed_by_its_connection_is_read_to_the_end() -> None:
    """The orderly end of the connection completes the answer."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        connection.close()

    async with RawUpstream(script) as upstream, connect(upstream.port) as caller:
        await caller.send(REQUEST)
        assert (await caller.response()).body == b"abc"


async def test_waiting_ends_when_nothing_more_can_arrive() -> None:
    """A reset in the middle of an answer raises Gone instead of waiting on."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        connection.reset()

    async with RawUpstream(script) as upstream, connect(upstream.port) as caller:
        await caller.send(REQUEST)
        with pytest.raises(Gone):
            await caller.response()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)


async def test_a_failing_script_fails_the_test() -> None:
    """What goes wrong in a script is raised where the upstream closes."""

    async def script(connection: RawConnection) -> None:
        raise LookupError("no such row")

    with pytest.raises(LookupError):
        async with RawUpstream(script) as upstream, connect(upstream.port):
            await upstream.connection()
