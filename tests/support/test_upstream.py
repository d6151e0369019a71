"""The scripted upstream and the recording connection never take a cut response or a failed script for success."""

from __future__ import annotations

import pytest

from support.raw import Gone, RawConnection, connect
from support.upstream import RawUpstream

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_waiting_ends_when_nothing_more_can_arrive() -> None:
    """A reset in the middle of a response raises Gone instead of waiting on."""

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
