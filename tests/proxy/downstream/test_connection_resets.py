"""A caller that is gone when it is told that its request is refused: nothing is raised where nobody could catch it."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from support.plane import base_url, eventually, get, integration, request, running
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, Scripted, settle
from support.upstream import RawUpstream

REFUSED = {
    "malformed": b"GARBAGE\r\n\r\n",
    "not ours": request("POST", "/a", "Content-Length: 100000", name="other") + b"first",
    "too large": request("POST", "/a", "Content-Length: 1000000000000"),
    "malformed behind another": get() + b"GARBAGE\r\n\r\n",
}
every_refusal = pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)


def watch_callbacks() -> list[dict[str, Any]]:
    """What the running loop reports from now on: exceptions that left a callback."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@every_refusal
async def test_a_caller_that_has_closed_before_it_is_refused(raw: bytes) -> None:
    """Its kernel answers our first byte by a reset, before the end of our response is said."""
    found = watch_callbacks()
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        with socket.create_connection(("127.0.0.1", sidekey.port)) as caller:
            caller.sendall(raw)
        # The loop has had no turn since the caller connected: it finds request and end together.
        await eventually(lambda: sidekey.metrics.unknown.outcomes or sidekey.metrics.stats("h").outcomes)
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.settled()
    assert found == []


@every_refusal
async def test_a_caller_that_resets_before_it_is_refused(raw: bytes) -> None:
    """The reset is there when the request is read."""
    found = watch_callbacks()
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(20):
            async with sidekey.connect() as caller:
                caller.transport.write(raw)
                caller.reset()
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.settled()
    assert found == []


async def test_an_upload_that_is_reset_while_it_is_refused() -> None:
    """The response is on its way, and what still comes of the body is being dropped."""

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly")

    found = watch_callbacks()
    async with RawUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(20):
            async with sidekey.connect() as caller:
                await caller.send(request("POST", "/a", "Content-Length: 100000") + b"first")
                await caller.until_received(1)
                caller.transport.write(b"more")
                caller.reset()
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.settled()
    assert found == []


class Shut(RecordingTransport):
    """A transport whose socket the other end has reset: it takes writes, but asyncio's shutdown of it fails."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


async def test_a_socket_that_cannot_be_shut_down_is_dropped() -> None:
    """At once: there is nobody to linger for."""

    sidekey = Scripted(integration("h", base_url(1)))
    caller = Shut(sidekey.plane.connection())
    caller.feed(b"GARBAGE\r\n\r\n")
    assert caller.written.startswith(b"HTTP/1.1 400 ")
    assert caller.aborted
    await settle()
    assert not sidekey.plane.worker.connections
    assert not sidekey.plane.worker.deadlines.watched
