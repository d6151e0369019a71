"""Draining: what has been answered reaches its caller whole, or visibly cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidekey.proxy.downstream.connection import LINGER, CallerConnection
from sidekey.proxy.transport import WRITE_BUFFER
from support.plane import Running, base_url, eventually, get, integration, running
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream

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


@asynccontextmanager
async def holding(answer: bytes, version: str) -> AsyncIterator[tuple[Running, RawConnection, CallerConnection]]:
    """A caller who has asked and does not read: the exchange is over, the end of its response waits in the plane."""
    async with (
        once(answer) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await eventually(lambda: sidekey.plane.worker.connections)
        (held,) = sidekey.plane.worker.connections
        held.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
        caller.transport.pause_reading()
        await caller.send(get(version=version))
        await sidekey.outcomes("h", c2xx=1)
        assert sidekey.metrics.in_flight == 0
        assert unsent(held)
        yield sidekey, caller, held


@every_version
@every_answer
async def test_a_drain_waits_until_the_caller_took_the_response(answer: bytes, version: str) -> None:
    """Though no exchange is under way any more: all of it arrives, then an orderly end."""
    async with holding(answer, version) as (sidekey, caller, held):
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
    async with holding(answer, version) as (sidekey, caller, _):
        sidekey.plane.drain()
        assert await sidekey.plane.finish(0.1) is False
        caller.transport.resume_reading()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)
        assert not caller.ended
        assert len(caller.received) < SIZE


async def test_a_response_that_was_taken_does_not_hold_up_the_end() -> None:
    """A kept connection with nothing left to send is closed at once, in order."""
    async with holding(ANSWERS["Content-Length"], "1.1") as (sidekey, caller, held):
        caller.transport.resume_reading()
        assert (await caller.response()).body == BODY
        await eventually(lambda: not unsent(held))
        sidekey.plane.drain()
        assert await sidekey.plane.finish(30) is True
        await caller.until_ended()
        assert (caller.ended, caller.error) == (True, None)


def kept(sidekey: Running) -> socket.socket:
    """A caller's connection whose bytes arrive without a turn of the loop."""
    return socket.create_connection(("127.0.0.1", sidekey.port))


async def read_all(sock: socket.socket) -> bytes:
    """What comes until the end. Raises ConnectionResetError."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    data = b""
    while piece := await loop.sock_recv(sock, 65536):
        data += piece
    return data


async def asked(sidekey: Running, caller: socket.socket) -> None:
    """Have one request answered, after which the connection is idle."""
    caller.sendall(get("/first"))
    caller.setblocking(False)
    data = await asyncio.get_running_loop().sock_recv(caller, 65536)
    assert data.endswith(OK[-2:])
    await sidekey.settled()
    caller.setblocking(True)


@asynccontextmanager
async def idle(*targets: bytes) -> AsyncIterator[tuple[Running, socket.socket]]:
    """A connection that is idle after its first request; in the end these targets have arrived too, and no other."""
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey:
            with kept(sidekey) as caller:
                await asked(sidekey, caller)
                yield sidekey, caller
        assert [each.target for each in upstream.requests] == [b"/api/first", *targets]


async def test_a_request_that_has_arrived_is_no_idle_connection() -> None:
    """Though nobody has read it yet when the drain ends what is idle: it is answered, and not reset."""
    async with idle(b"/api/second") as (sidekey, caller):
        sidekey.plane.drain()
        end = sidekey.plane.finish(30)
        caller.sendall(get("/second"))
        reading = asyncio.create_task(read_all(caller))
        assert await end is True
        answer = await reading
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer


def error_of(caller: socket.socket) -> int:
    """What the kernel knows of this connection: not 0 where a reset has come."""
    return caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


async def test_a_request_that_crosses_the_end_of_its_connection_is_not_reset() -> None:
    """The end of stream was sent already: its caller sees that, and may send it again (RFC 9112 9.3.1).

    However long it takes for them to look: until they end their side as well, or LINGER.
    """
    async with idle() as (sidekey, caller):
        sidekey.plane.drain()
        (connection,) = sidekey.plane.worker.connections
        sidekey.wait(1)
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


async def test_what_arrives_before_an_idle_connection_is_really_closed_is_not_reset() -> None:
    """A loop closes a socket at its next turn only; its caller sees an end, as if the request had come after that."""
    async with idle() as (sidekey, caller):
        (connection,) = sidekey.plane.worker.connections
        assert connection.close_if_idle()
        caller.sendall(get("/second"))
        assert await read_all(caller) == b""
        assert error_of(caller) == 0


async def test_what_arrives_before_a_connection_has_lingered_long_enough_is_not_reset() -> None:
    """Though nobody has read it when the time is up."""
    async with idle() as (sidekey, caller):
        (connection,) = sidekey.plane.worker.connections
        sidekey.wait(1)
        connection.wind_down(patient=False)
        caller.sendall(get("/second"))
        sidekey.wait(LINGER)
        caller.sendall(get("/third"))
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert error_of(caller) == 0
        assert await read_all(caller) == b""


async def test_a_pipelined_request_behind_the_last_response_is_not_reset() -> None:
    """The response said that the connection ends; what its caller had sent before they read that is dropped."""
    async with idle(b"/api/second") as (sidekey, caller):
        sidekey.plane.drain()
        caller.sendall(get("/second"))
        answer = await read_all(caller)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        for _ in range(3):
            caller.sendall(get("/third"))
            await asyncio.sleep(0)
        assert error_of(caller) == 0


async def test_a_connection_that_stays_idle_is_ended_in_order() -> None:
    """After a tick, and closed after LINGER, also where its caller does nothing about it."""
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        with kept(sidekey) as used, kept(sidekey) as fresh:
            await asked(sidekey, used)
            sidekey.plane.drain()
            assert await sidekey.plane.finish(30) is True
            assert await read_all(used) == await read_all(fresh) == b""


async def test_a_request_that_comes_as_keep_alive_ends_is_answered() -> None:
    """It had arrived before the connection was closed."""
    async with idle(b"/api/second") as (sidekey, caller):
        caller.sendall(get("/second", "Connection: close"))
        sidekey.wait(sidekey.plane.worker.rules.timeouts.keep_alive)
        assert (await read_all(caller)).startswith(b"HTTP/1.1 200 OK\r\n")
