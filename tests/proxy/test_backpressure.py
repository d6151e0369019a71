"""Backpressure: Sidekey buffers at most WRITE_BUFFER and one read for a slow receiver, in both directions."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.proxy.connection import MAX_DIRECT_READ, PARSER_BYPASS
from sidekey.proxy.transport import WRITE_BUFFER
from support.plane import base_url, eventually, get, integration, request, running
from support.raw_connection import RawConnection
from support.scripted import RecordingTransport, ScriptedPlane
from support.upstream import RawUpstream

READ = max(MAX_DIRECT_READ, 256 << 10)
"""The most that is read at a time: of a long body, and by either loop of anything else."""

HEAD = 1 << 10
"""More than a head of these tests, and than the lines that divide a read into chunks."""

BOUND = WRITE_BUFFER + READ + HEAD
SIZE = 16 << 20
"""More than kernels hold."""

BODY = bytes(range(256)) * (SIZE // 256)
CHUNK = 32 << 10
CHUNKED = b"".join(b"%x\r\n%b\r\n" % (CHUNK, BODY[at : at + CHUNK]) for at in range(0, SIZE, CHUNK)) + b"0\r\n\r\n"

ANSWERS = {
    "Content-Length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "close-delimited": b"HTTP/1.1 200 OK\r\n\r\n" + BODY,
}
UPLOADS = {
    "Content-Length": request("POST", body=BODY),
    "chunked": request("POST", "/a", "Transfer-Encoding: chunked") + CHUNKED,
}


@pytest.mark.parametrize("response", ANSWERS.values(), ids=ANSWERS)
async def test_sidekey_buffers_a_bounded_part_of_a_response(response: bytes) -> None:
    """Everything arrives once the caller reads."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        connection.transport.write(response)
        connection.close()

    async with (
        RawUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.pause_reading()
        await caller.send(get())
        connection = await upstream.connection()
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.transport.get_write_buffer_size() > WRITE_BUFFER)
        # It is full: from here on it can only shrink, until the caller reads.
        assert held.transport.get_write_buffer_size() <= BOUND
        assert connection.transport.get_write_buffer_size() > 0
        caller.transport.resume_reading()
        await caller.until(lambda: len(caller.received) >= SIZE)
        assert (await caller.response()).body == BODY


@pytest.mark.parametrize("upload", UPLOADS.values(), ids=UPLOADS)
async def test_sidekey_buffers_a_bounded_part_of_an_upload(upload: bytes) -> None:
    """Everything arrives once the upstream reads."""
    go_on = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.pause_reading()
        await go_on.wait()
        connection.transport.resume_reading()
        await connection.until(lambda: len(connection.received) >= SIZE)
        await connection.request()
        await connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with (
        RawUpstream(script) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as caller,
    ):
        caller.transport.write(upload)
        await upstream.connection()
        (held,) = sidekey.plane.worker.connections
        await eventually(lambda: held.exchange is not None and held.exchange._upstream is not None)
        assert held.exchange is not None
        active = held.exchange._upstream
        assert active is not None
        await eventually(lambda: active.transport.get_write_buffer_size() > WRITE_BUFFER)
        assert active.transport.get_write_buffer_size() <= BOUND
        assert caller.transport.get_write_buffer_size() > 0
        go_on.set()
        assert (await caller.response()).status == 204
        (message,) = upstream.requests
        assert message.body == BODY


class WriteRecorder(RecordingTransport):
    """Records each write."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.pieces: list[bytes] = []
        super().__init__(protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))
        super().write(data)


@pytest.mark.parametrize("size", [1, PARSER_BYPASS, PARSER_BYPASS + 1, 3 * PARSER_BYPASS])
async def test_each_read_of_a_response_is_one_write(size: int) -> None:
    """On both sides of the length from which a body bypasses the parser, and at its end."""

    sidekey = ScriptedPlane(integration("h", base_url(1)))
    caller = WriteRecorder(sidekey.plane.connection())
    caller.feed(get())
    upstream = await sidekey.upstream()
    body = BODY[:size]
    reads = [body[at : at + PARSER_BYPASS // 2] for at in range(0, size, PARSER_BYPASS // 2)]
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size, *reads)
    assert caller.pieces[1:] == reads
    assert len(sidekey.pooled()) == 1
