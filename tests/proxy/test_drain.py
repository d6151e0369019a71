"""Draining: each response arrives complete, or visibly truncated."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidekey.proxy.downstream.connection import LINGER, CallerConnection
from sidekey.proxy.transport import WRITE_BUFFER
from support.plane import RunningPlane, base_url, eventually, get, integration, running
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream

SIZE = WRITE_BUFFER - 4096
"""Size of a response that the plane reads completely while the caller does not read."""

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


def once(response: bytes) -> RawUpstream:
    """Respond to the first request of a connection, and close."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(response)
        connection.close()

    return RawUpstream(script)


def unsent(held: CallerConnection) -> int:
    """Return the number of bytes that the plane buffers for the caller."""
    return held.transport.get_write_buffer_size()


@asynccontextmanager
async def unread_response(
    response: bytes, version: str
) -> AsyncIterator[tuple[RunningPlane, RawConnection, CallerConnection]]:
    """A caller that does not read: the exchange is over, and the plane buffers the rest of its response."""
    async with (
        once(response) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await eventually(lambda: sidekey.plane.worker.connections)
        (held,) = sidekey.plane.worker.connections
        held.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        caller.transport.pause_reading()
        await caller.send(get(version=version))
        await sidekey.wait_for_outcomes("h", c2xx=1)
        assert sidekey.metrics.in_flight == 0
        assert unsent(held)
        yield sidekey, caller, held


@every_version
@every_answer
async def test_drain_waits_until_the_caller_has_read_the_response(answer: bytes, version: str) -> None:
    """Then FIN follows."""
    async with unread_response(answer, version) as (sidekey, caller, held):
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
async def test_unread_response_is_reset_at_the_end_of_the_drain(answer: bytes, version: str) -> None:
    """After FIN, a close-delimited response would look complete."""
    async with unread_response(answer, version) as (sidekey, caller, _):
        sidekey.plane.drain()
        assert await sidekey.plane.finish(0.1) is False
        caller.transport.resume_reading()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)
        assert not caller.ended
        assert len(caller.received) < SIZE


async def test_read_response_does_not_delay_the_drain() -> None:
    async with unread_response(ANSWERS["Content-Length"], "1.1") as (sidekey, caller, held):
        caller.transport.resume_reading()
        assert (await caller.response()).body == BODY
        await eventually(lambda: not unsent(held))
        sidekey.plane.drain()
        assert await sidekey.plane.finish(30) is True
        await caller.until_ended()
        assert (caller.ended, caller.error) == (True, None)


def idle_caller(sidekey: RunningPlane) -> socket.socket:
    """Open a caller's connection whose bytes arrive without a turn of the loop."""
    return socket.create_connection(("127.0.0.1", sidekey.port))


async def read_all(sock: socket.socket) -> bytes:
    """Read to the end. Raises ConnectionResetError."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    data = b""
    while piece := await loop.sock_recv(sock, 65536):
        data += piece
    return data


async def send_first_request(sidekey: RunningPlane, caller: socket.socket) -> None:
    """Send a request, after whose response the connection is idle."""
    caller.sendall(get("/first"))
    caller.setblocking(False)
    data = await asyncio.get_running_loop().sock_recv(caller, 65536)
    assert data.endswith(OK[-2:])
    await sidekey.wait_until_idle()
    caller.setblocking(True)


@asynccontextmanager
async def idle(*targets: bytes) -> AsyncIterator[tuple[RunningPlane, socket.socket]]:
    """Yield an idle connection. In the end, the upstream must have received exactly these targets."""
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey:
            with idle_caller(sidekey) as caller:
                await send_first_request(sidekey, caller)
                yield sidekey, caller
        assert [item.target for item in upstream.requests] == [b"/api/first", *targets]


async def test_connection_with_an_unread_request_is_not_idle() -> None:
    """Sidekey answers the request, although nothing had read it when the drain closed idle connections."""
    async with idle(b"/api/second") as (sidekey, caller):
        sidekey.plane.drain()
        end = sidekey.plane.finish(30)
        caller.sendall(get("/second"))
        reading = asyncio.create_task(read_all(caller))
        assert await end is True
        response = await reading
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in response


def error_of(caller: socket.socket) -> int:
    """Return the pending socket error, which is not 0 after a reset."""
    return caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


async def test_request_that_crosses_fin_is_not_reset() -> None:
    """The caller sees FIN, and may retry the request (RFC 9112 9.3.1).

    Sidekey waits for the caller's FIN, or for LINGER.
    """
    async with idle() as (sidekey, caller):
        sidekey.plane.drain()
        (connection,) = sidekey.plane.worker.connections
        sidekey.advance(1)
        connection.wind_down(patient=True)
        for number in range(5):
            connection.wind_down(patient=False)
            caller.sendall(get(f"/{number}"))
            await asyncio.sleep(0)
            assert error_of(caller) == 0
        assert await read_all(caller) == b""
        assert connection in sidekey.plane.worker.connections
        caller.shutdown(socket.SHUT_WR)
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert error_of(caller) == 0


async def test_request_before_the_actual_close_is_not_reset() -> None:
    """A loop closes a socket in its next turn."""
    async with idle() as (sidekey, caller):
        (connection,) = sidekey.plane.worker.connections
        assert connection.close_if_idle()
        caller.sendall(get("/second"))
        assert await read_all(caller) == b""
        assert error_of(caller) == 0


async def test_request_during_linger_is_not_reset() -> None:
    """Even if nothing has read it when the time is up."""
    async with idle() as (sidekey, caller):
        (connection,) = sidekey.plane.worker.connections
        sidekey.advance(1)
        connection.wind_down(patient=False)
        caller.sendall(get("/second"))
        sidekey.advance(LINGER)
        caller.sendall(get("/third"))
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert error_of(caller) == 0
        assert await read_all(caller) == b""


async def test_a_pipelined_request_behind_the_last_response_is_not_reset() -> None:
    """Sidekey drops it after a response with Connection: close."""
    async with idle(b"/api/second") as (sidekey, caller):
        sidekey.plane.drain()
        caller.sendall(get("/second"))
        response = await read_all(caller)
        assert response.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in response
        for _ in range(3):
            caller.sendall(get("/third"))
            await asyncio.sleep(0)
        assert error_of(caller) == 0


async def test_idle_connection_gets_fin() -> None:
    """After a tick. Sidekey closes after LINGER even if the caller does nothing."""
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        with idle_caller(sidekey) as used, idle_caller(sidekey) as fresh:
            await send_first_request(sidekey, used)
            sidekey.plane.drain()
            assert await sidekey.plane.finish(30) is True
            assert await read_all(used) == await read_all(fresh) == b""


async def test_request_at_the_end_of_keep_alive_is_answered() -> None:
    async with idle(b"/api/second") as (sidekey, caller):
        caller.sendall(get("/second", "Connection: close"))
        sidekey.advance(sidekey.plane.worker.rules.timeouts.keep_alive)
        assert (await read_all(caller)).startswith(b"HTTP/1.1 200 OK\r\n")
