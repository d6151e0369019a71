"""Long reads from the socket."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from sidekey.proxy.connection import LONG_READ, MAX_DIRECT_READ, PARSER_BYPASS
from support.plane import UPSTREAM, base_url, eventually, get, integration, request, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.upstream import OK, RawUpstream

SIZE = 6 * MAX_DIRECT_READ + 12_345

SIZES = [PARSER_BYPASS + 1, MAX_DIRECT_READ, MAX_DIRECT_READ + 1, 2 * MAX_DIRECT_READ, SIZE]


def pattern(size: int, first: int = 7) -> bytes:
    """Return bytes that differ between bodies at the same offset."""
    return (bytes((first + at) % 251 for at in range(251)) * (size // 251 + 1))[:size]


def post(body: bytes) -> bytes:
    return request("POST", "/a", f"Content-Length: {len(body)}") + body


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def answering(*responses: bytes) -> Callable[[RawConnection], Awaitable[None]]:
    """Build an upstream script that sends these responses on each connection, one for each request."""

    async def script(connection: RawConnection) -> None:
        for response in responses:
            await connection.request()
            connection.transport.write(response)

    return script


async def silent(_: RawConnection) -> None:
    """Send nothing: the test controls the connection."""


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_request_and_the_next_one_arrive_complete(size: int) -> None:
    """The sizes lie on both sides of the thresholds."""
    body = pattern(size)
    async with (
        RawUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(post(body) + get("/next"))
        assert [(await caller.response()).status for _ in range(2)] == [200, 200]
        first, second = upstream.requests
    assert first.body == body
    assert second.target == b"/api/next"


@pytest.mark.parametrize("size", SIZES)
async def test_a_long_response_arrives_complete_and_its_connection_is_reused(size: int) -> None:
    body = pattern(size)
    async with (
        RawUpstream(answering(head(size) + body, OK, head(size) + body)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        for expected in (body, b"ok", body):
            await caller.send(get())
            assert (await caller.response()).body == expected
        assert len(upstream.connections) == 1


async def test_concurrent_bodies_do_not_mix() -> None:
    bodies = [pattern(SIZE, first) for first in (1, 100)]

    async def echo(connection: RawConnection) -> None:
        message = await connection.request()
        connection.transport.write(head(SIZE) + message.body)

    async with (
        RawUpstream(echo) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as one,
        sidekey.connect() as other,
    ):
        for caller, body in ((one, bodies[0]), (other, bodies[1])):
            caller.transport.write(post(body))
        for caller, body in ((one, bodies[0]), (other, bodies[1])):
            assert (await caller.response()).body == body
    assert sorted(message.body for message in upstream.requests) == sorted(bodies)


async def send_in_steps(sender: RawConnection, receiver: RawConnection, body: bytes, step: int) -> None:
    """Send `step` bytes at a time, each after the previous ones have arrived."""
    before = len(receiver.received)
    for at in range(0, len(body), step):
        await sender.send(body[at : at + step])
        await receiver.until_received(before + min(at + step, len(body)))


@pytest.mark.parametrize("step", [LONG_READ - 1, LONG_READ + 1, 3 * MAX_DIRECT_READ])
async def test_a_sender_may_pause_anywhere(step: int) -> None:
    """Then the socket is empty, and the loop reads on."""
    body = pattern(SIZE)
    async with (
        RawUpstream(silent) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(request("POST", "/a", f"Content-Length: {SIZE}") + body[:1])
        connection = await upstream.connection()
        await connection.until(lambda: connection.received.endswith(body[:1]))
        await send_in_steps(caller, connection, body[1:], step)
        await connection.send(head(SIZE) + body[:1])
        await caller.until(lambda: caller.received.endswith(body[:1]))
        await send_in_steps(connection, caller, body[1:], step)
        assert (await caller.response()).body == body
        (message,) = upstream.requests
        assert message.body == body


@pytest.mark.parametrize("leave", [RawConnection.close, RawConnection.reset])
async def test_a_caller_that_leaves_cuts_the_request(leave: Callable[[RawConnection], None]) -> None:
    async with (
        RawUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(request("POST", "/a", f"Content-Length: {2 * SIZE}") + pattern(SIZE))
        connection = await upstream.connection()
        await connection.until(lambda: len(connection.received) > SIZE)
        leave(caller)
        await connection.until_ended()
        assert len(connection.received) < 2 * SIZE
        await eventually(lambda: not sidekey.metrics.in_flight)


@pytest.mark.parametrize("leave", [RawConnection.close, RawConnection.reset])
async def test_an_upstream_that_leaves_cuts_the_response(leave: Callable[[RawConnection], None]) -> None:
    """A response that lacks one byte must not look complete."""
    body = pattern(SIZE)

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(head(SIZE + 1) + body)
        leave(connection)

    async with (
        RawUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        await caller.until_lost()
        assert caller.error is not None
        assert body.startswith(bytes(caller.received).partition(b"\r\n\r\n")[2])
        assert sidekey.metrics.upstream_open == sidekey.metrics.in_flight == 0


async def test_an_early_response_ends_the_upload() -> None:
    """The connection closes after it."""

    async def script(connection: RawConnection) -> None:
        await connection.until(lambda: len(connection.received) > SIZE // 2)
        await connection.send(head(5) + b"early")

    async with (
        RawUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(request("POST", "/a", f"Content-Length: {2 * SIZE}") + pattern(SIZE))
        response = await caller.response()
        assert (response.status, response.body) == (200, b"early")
        assert response.values(b"connection") == [b"close"]
        await caller.until_ended()


async def test_bytes_behind_a_long_response_are_not_forwarded() -> None:
    """The connection is not reused, because they could be mistaken for the next response."""
    body = pattern(SIZE)
    async with (
        RawUpstream(answering(head(SIZE) + body + b"HTTP/1.1 200 OK\r\n")) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        assert (await caller.response()).body == body
        await (await upstream.connection()).until_ended()
        assert len(caller.received) == caller.consumed


async def test_tls_is_left_to_the_loop(ca: Authority) -> None:
    """The socket contains TLS records."""
    body = pattern(SIZE)
    context = ca.server_context(UPSTREAM)
    async with RawUpstream(answering(head(SIZE) + body), ssl_context=context) as upstream:
        configured = integration("h", base_url(upstream.port, scheme="https"), trust=ca.trust)
        async with running(configured) as sidekey, sidekey.connect() as caller:
            caller.transport.write(post(body))
            assert (await caller.response()).body == body
        (message,) = upstream.requests
        assert message.body == body


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The socket of an upstream connection, and the upstream's end of it."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        # It must take two long reads at a time.
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_DIRECT_READ)
        yield near, far


class Listener(RecordingTransport):
    """A caller's transport that calls `on_write` for each piece of the response."""

    on_write: Callable[[int], None] | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        if self.on_write is not None:
            self.on_write(len(data))


async def after_a_long_read(near: socket.socket | FileIO) -> tuple[ScriptedPlane, Listener, RecordingTransport]:
    """A caller and its upstream, which has sent the first long read of a response; more of it is in the socket."""
    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = Listener(sidekey.plane.connection())
    caller.feed(get())
    upstream = await sidekey.upstream()
    upstream.sock = near
    upstream.feed(head(9 * MAX_DIRECT_READ), bytes(LONG_READ))
    caller.read()
    return sidekey, caller, upstream


async def test_a_transport_without_a_socket_is_left_to_the_loop(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    _, _, upstream = await after_a_long_read(ends[0])
    assert upstream.reading


@pytest.mark.parametrize(("size", "by_loop"), [(LONG_READ - 1, True), (LONG_READ, False)])
async def test_a_short_rest_is_left_to_the_loop(
    ends: tuple[socket.socket, socket.socket], size: int, by_loop: bool
) -> None:
    near, far = ends
    far.sendall(b"x" * size)
    _, caller, upstream = await after_a_long_read(near)
    assert not upstream.reading
    await settle()
    assert upstream.reading
    assert caller.read() == (b"" if by_loop else b"x" * size)


async def test_other_connections_have_their_turn_after_two_reads(ends: tuple[socket.socket, socket.socket]) -> None:
    """A read has at most half a mebibyte, twice as much as one of uvloop."""
    near, far = ends
    reads: list[int] = []

    def record(size: int) -> None:
        reads.append(size)
        far.sendall(bytes(MAX_DIRECT_READ))

    far.sendall(bytes(MAX_DIRECT_READ))
    _, caller, upstream = await after_a_long_read(near)
    caller.on_write = record
    for turn in (1, 2):
        await asyncio.sleep(0)
        assert reads == [524_288] * 2 * turn
        assert not upstream.reading
    upstream.fail(ConnectionResetError())
    await settle()


async def test_nothing_is_read_for_a_caller_that_takes_no_more(ends: tuple[socket.socket, socket.socket]) -> None:
    """The loop reads on once the caller takes more."""
    near, far = ends
    far.sendall(b"later" * LONG_READ)
    _, caller, upstream = await after_a_long_read(near)
    caller.block_writes()
    caller.write(b"")
    await settle()
    assert not upstream.reading
    assert near.recv(5) == b"later"
    caller.allow_writes()
    assert upstream.reading


async def test_nothing_is_read_from_a_connection_that_closes(ends: tuple[socket.socket, socket.socket]) -> None:
    """Another connection may have its descriptor."""
    near, far = ends
    far.sendall(b"not ours" * LONG_READ)
    _, _, upstream = await after_a_long_read(near)
    upstream.fail(ConnectionResetError())
    await settle()
    assert near.recv(8) == b"not ours"


async def test_a_kernel_that_does_not_tell_how_much_has_arrived_leaves_all_to_the_loop() -> None:
    """A sandbox may be such a kernel. The connection must not stay paused."""
    with Path(os.devnull).open("rb", buffering=0) as mute:
        _, _, upstream = await after_a_long_read(mute)
        await settle()
        assert upstream.reading
        assert not upstream.aborted


async def test_the_end_of_a_stream_is_left_to_the_loop(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    far.close()
    _, _, upstream = await after_a_long_read(near)
    await settle()
    assert upstream.reading
    assert near.recv(9) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe holds less than a long read")
async def test_an_error_cuts_the_connection_and_the_response() -> None:
    """The kernel reports it once: the loop would find an orderly end. The write end of a pipe cannot be read."""
    reading, writing = os.pipe()
    with FileIO(reading, "r"), FileIO(writing, "w") as end:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 2 * LONG_READ)
        end.write(bytes(LONG_READ))
        _, caller, upstream = await after_a_long_read(end)
        await settle()
        assert upstream.aborted
        assert caller.truncated


async def test_a_defect_cuts_the_connection_and_is_reported(ends: tuple[socket.socket, socket.socket]) -> None:
    """As the loop does for a defect in its own reads."""
    near, far = ends
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(_: int) -> None:
        raise AssertionError("a defect")

    far.sendall(bytes(LONG_READ))
    _, caller, upstream = await after_a_long_read(near)
    caller.on_write = fail
    await asyncio.sleep(0)
    caller.on_write = None
    assert upstream.aborted
    assert [str(error) for error in reported] == ["a defect"]
    await settle()
    assert caller.truncated
