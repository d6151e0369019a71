"""Callers that reset their connection while Sidekey refuses their request. No callback may raise."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from support.plane import base_url, eventually, get, integration, request, running
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import RawUpstream

REFUSED = {
    "malformed": b"GARBAGE\r\n\r\n",
    "not ours": request("POST", "/a", "Content-Length: 100000", name="other") + b"first",
    "too large": request("POST", "/a", "Content-Length: 1000000000000"),
    "malformed behind another": get() + b"GARBAGE\r\n\r\n",
}
every_refusal = pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED)


def watch_callbacks() -> list[dict[str, Any]]:
    """Collect exceptions of callbacks from the running loop."""
    result: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: result.append(context))
    return result


@every_refusal
async def test_caller_that_closed_before_the_refusal(raw: bytes) -> None:
    """Its kernel answers the first byte with a reset."""
    result = watch_callbacks()
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        with socket.create_connection(("127.0.0.1", sidekey.port)) as caller:
            caller.sendall(raw)
        # The loop has had no turn since the caller connected: it finds request and end together.
        await eventually(lambda: sidekey.metrics.unknown.outcomes or sidekey.metrics.stats("h").outcomes)
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.wait_until_idle()
    assert result == []


@every_refusal
async def test_caller_that_reset_before_the_refusal(raw: bytes) -> None:
    result = watch_callbacks()
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(20):
            async with sidekey.connect() as caller:
                caller.transport.write(raw)
                caller.reset()
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.wait_until_idle()
    assert result == []


async def test_caller_that_resets_a_refused_upload() -> None:
    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nearly")

    result = watch_callbacks()
    async with RawUpstream(script) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        for _ in range(20):
            async with sidekey.connect() as caller:
                await caller.send(request("POST", "/a", "Content-Length: 100000") + b"first")
                await caller.until_received(1)
                caller.transport.write(b"more")
                caller.reset()
        await eventually(lambda: not sidekey.plane.worker.connections)
        await sidekey.wait_until_idle()
    assert result == []


class Shut(RecordingTransport):
    """A transport whose socket was reset: writes succeed, but asyncio's shutdown fails."""

    def write_eof(self) -> None:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


async def test_socket_that_cannot_be_shut_down_is_closed_at_once() -> None:
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = Shut(sidekey.plane.connection())
    caller.feed(b"GARBAGE\r\n\r\n")
    assert caller.written.startswith(b"HTTP/1.1 400 ")
    assert caller.aborted
    await settle()
    assert not sidekey.plane.worker.connections
    assert not sidekey.plane.worker.deadlines.watched
