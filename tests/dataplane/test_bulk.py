"""dataplane/bulk.py: a long body is received in long reads, past the loop; nothing but the length of a read changes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from sidekey.dataplane.buffers import BULK, BYPASS
from sidekey.dataplane.bulk import LONG, is_bare, read_on
from support.ca import Authority
from support.plane import UPSTREAM, base_url, eventually, get, integration, request, running
from support.raw import RawConnection
from support.upstream import OK, RawUpstream

SIZE = 6 * BULK + 12_345

SIZES = [BYPASS + 1, BULK, BULK + 1, 2 * BULK, SIZE]


def pattern(size: int, first: int = 7) -> bytes:
    """Bytes that tell where they belong: another body has others at the same place."""
    return (bytes((first + at) % 251 for at in range(251)) * (size // 251 + 1))[:size]


def post(body: bytes) -> bytes:
    return request("POST", "/a", f"Content-Length: {len(body)}") + body


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def answering(*answers: bytes) -> Callable[[RawConnection], Awaitable[None]]:
    """An upstream that gives these answers on each connection, one for each request."""

    async def script(connection: RawConnection) -> None:
        for answer in answers:
            await connection.request()
            connection.transport.write(answer)

    return script


async def silent(_: RawConnection) -> None:
    """What the upstream does, the test says."""


@pytest.mark.parametrize("size", SIZES)
async def test_a_request_arrives_whole_with_the_one_behind_it(size: int) -> None:
    """On both sides of the lengths from which reads are long; what follows is read as ever."""
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
async def test_a_response_arrives_whole_and_its_connection_serves_again(size: int) -> None:
    """The same on the other side."""
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


async def test_bodies_that_come_at_once_are_kept_apart() -> None:
    """Both ways."""
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
    """Send so much at a time, and more only once it has arrived at the other end."""
    before = len(receiver.received)
    for at in range(0, len(body), step):
        await sender.send(body[at : at + step])
        await receiver.until_received(before + min(at + step, len(body)))


@pytest.mark.parametrize("step", [LONG - 1, LONG + 1, 3 * BULK])
async def test_whoever_sends_may_pause_anywhere(step: int) -> None:
    """So that nothing is there to be read past the loop, which is then told of what comes."""
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
    """By the end of its stream, or by a reset, in the middle of long reads."""
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
    """What is short by one byte does not look complete."""
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
    """It arrives whole while the request is still being read, and the connection closes behind it."""

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


async def test_more_than_was_announced_is_not_passed_on() -> None:
    """Nor is the connection used again: those bytes could only be taken for another response."""
    body = pattern(SIZE)
    async with (
        RawUpstream(answering(head(SIZE) + body + b"HTTP/1.1 200 OK\r\n")) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get())
        assert (await caller.response()).body == body
        await (await upstream.connection()).until_ended()
        assert len(caller.received) == caller.taken


async def test_tls_is_left_to_the_loop(ca: Authority) -> None:
    """What is in the socket are records."""
    body = pattern(SIZE)
    context = ca.server_context(UPSTREAM)
    async with RawUpstream(answering(head(SIZE) + body), ssl_context=context) as upstream:
        made = integration("h", base_url(upstream.port, scheme="https"), trust=ca.trust)
        async with running(made) as sidekey, sidekey.connect() as caller:
            caller.transport.write(post(body))
            assert (await caller.response()).body == body
        (message,) = upstream.requests
        assert message.body == body


class Plain(asyncio.Transport):
    """The end of a socket whose loop reads nothing."""

    def __init__(self, sock: socket.socket | FileIO) -> None:
        super().__init__()
        self.sock = sock
        self.aborted = self.closing = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.sock if name == "socket" else default

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.aborted = self.closing = True


@pytest.fixture
def ends() -> Iterator[tuple[Plain, socket.socket]]:
    """A transport, and the socket that is its peer."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        for end in (one, other):
            # Each must take two long reads at a time.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * BULK)
        yield Plain(one), other


def refuse(data: bytes) -> None:
    raise AssertionError(len(data))


def test_a_transport_without_a_socket_is_not_bare(ends: tuple[Plain, socket.socket]) -> None:
    """There is nothing to read past its loop."""
    assert is_bare(ends[0])
    ends[0].sock.close()
    assert not is_bare(ends[0])


def test_what_is_little_is_left_to_the_loop(ends: tuple[Plain, socket.socket]) -> None:
    """Which tells when more is there."""
    near, far = ends
    reads: list[bytes] = []
    far.sendall(b"x" * (LONG - 1))
    assert not read_on(near, refuse, lambda: True)
    far.sendall(b"y")
    assert not read_on(near, reads.append, lambda: True)
    assert reads == [b"x" * (LONG - 1) + b"y"]


def test_others_have_their_turn_after_two_reads(ends: tuple[Plain, socket.socket]) -> None:
    """Of half a mebibyte at most: twice what uvloop reads by itself, so that there are half as many calls."""
    near, far = ends
    reads: list[int] = []

    def receive(data: bytes) -> None:
        reads.append(len(data))
        far.sendall(bytes(BULK))

    far.sendall(bytes(BULK))
    assert read_on(near, receive, lambda: True)
    assert reads == [524_288, 524_288]


def test_nothing_is_read_that_is_not_wanted(ends: tuple[Plain, socket.socket]) -> None:
    """It stays where it is."""
    near, far = ends
    far.sendall(b"later" * LONG)
    assert not read_on(near, refuse, lambda: False)
    assert near.sock.recv(5) == b"later"


def test_nothing_is_read_of_a_transport_that_closes(ends: tuple[Plain, socket.socket]) -> None:
    """Its descriptor may be another connection's."""
    near, far = ends
    far.sendall(b"not ours" * LONG)
    near.closing = True
    assert not read_on(near, refuse, lambda: True)
    assert near.sock.recv(8) == b"not ours"


def test_where_the_kernel_does_not_say_how_much_has_arrived_all_is_left_to_the_loop() -> None:
    """As a sandbox may have it: the connection must not stay paused."""
    with Path(os.devnull).open("rb", buffering=0) as mute:
        near = Plain(mute)
        assert not read_on(near, refuse, lambda: True)
        assert not near.aborted


def test_the_end_of_a_stream_is_left_to_the_loop(ends: tuple[Plain, socket.socket]) -> None:
    """Which finds it too."""
    near, far = ends
    far.close()
    assert not read_on(near, refuse, lambda: True)
    assert not near.aborted
    assert near.sock.recv(9) == b""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe holds less than a long read")
def test_an_error_ends_the_connection() -> None:
    """The kernel tells it once: the loop would find an orderly end. Here it is that of the end that one writes to."""
    reading, writing = os.pipe()
    with FileIO(reading, "r"), FileIO(writing, "w") as end:
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 2 * LONG)
        end.write(bytes(LONG))
        near = Plain(end)
        assert not read_on(near, refuse, lambda: True)
        assert near.aborted


def test_a_defect_ends_the_connection(ends: tuple[Plain, socket.socket]) -> None:
    """As a loop has it: it is reported, and what the connection carries is cut."""
    near, far = ends
    far.sendall(bytes(LONG))
    with pytest.raises(AssertionError):
        read_on(near, refuse, lambda: True)
    assert near.aborted
