"""Draining: what has been answered reaches its caller whole, or visibly cut."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidekey.dataplane.buffers import WRITE_BUFFER
from sidekey.dataplane.downstream.connection import CallerConnection
from support.plane import Running, base_url, eventually, get, integration, running
from support.raw import RawConnection
from support.upstream import RawUpstream

SIZE = WRITE_BUFFER - 4096
"""Of a response that the plane takes from the upstream whole, though the caller does not read."""

BODY = b"x" * SIZE
KERNEL = 16 << 10
"""Bytes that the kernel shall hold for a caller, so that the rest waits in the plane."""

ANSWERS = {
    "close-delimited": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
    "Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (SIZE, BODY),
}

every_answer = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
every_version = pytest.mark.parametrize("version", ["1.0", "1.1"])


def once(answer: bytes) -> RawUpstream:
    """An upstream that answers a connection's first request and closes."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(answer)
        connection.close()

    return RawUpstream(script)


def unsent(held: CallerConnection) -> int:
    """Bytes that wait in the plane for their caller."""
    return held.transport.get_write_buffer_size()


async def hold_an_answer(sidekey: Running, caller: RawConnection, version: str) -> CallerConnection:
    """Ask without reading, until the exchange is over and the end of its response waits in the plane."""
    await eventually(lambda: sidekey.plane.worker.connections)
    (held,) = sidekey.plane.worker.connections
    held.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
    caller.transport.pause_reading()
    await caller.send(get(version=version))
    await sidekey.outcomes("h", c2xx=1)
    assert sidekey.metrics.in_flight == 0
    assert unsent(held)
    return held


@every_version
@every_answer
async def test_a_drain_waits_until_the_caller_took_the_response(answer: bytes, version: str) -> None:
    """Though no exchange is under way any more: all of it arrives, then an orderly end."""
    async with (
        once(answer) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        held = await hold_an_answer(sidekey, caller, version)
        sidekey.plane.drain()
        end = asyncio.create_task(sidekey.plane.finish(30))
        await asyncio.wait([end], timeout=0.2)
        assert unsent(held)
        assert not end.done()
        caller.transport.resume_reading()
        assert await end is True
        await caller.until_ended()
        assert (caller.ended, caller.error) == (True, None)
        assert (await caller.response()).body == BODY


@every_version
@every_answer
async def test_a_response_that_is_not_taken_is_cut_at_the_end_of_the_grace(answer: bytes, version: str) -> None:
    """By a reset: to a caller whose answer ends with its connection, a clean end would make less of it look whole."""
    async with (
        once(answer) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await hold_an_answer(sidekey, caller, version)
        sidekey.plane.drain()
        assert await sidekey.plane.finish(0.1) is False
        caller.transport.resume_reading()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)
        assert not caller.ended
        assert len(caller.received) < SIZE


async def test_a_response_that_was_taken_does_not_hold_up_the_end() -> None:
    """A kept connection with nothing left to send is closed at once, in order."""
    async with (
        once(ANSWERS["Content-Length"]) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        held = await hold_an_answer(sidekey, caller, "1.1")
        caller.transport.resume_reading()
        assert (await caller.response()).body == BODY
        await eventually(lambda: not unsent(held))
        sidekey.plane.drain()
        assert await sidekey.plane.finish(30) is True
        await caller.until_ended()
        assert (caller.ended, caller.error) == (True, None)
