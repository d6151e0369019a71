"""Sidekey speaks only HTTP/1.1 and HTTP/1.0. llhttp accepts more protocols."""

from __future__ import annotations

import pytest

from support import wire
from support.memory import MemoryUpstream, running
from support.plane import base_url, get, integration, problem
from support.upstream import respond_with

HTTP = ("HTTP/2.0", "HTTP/0.9")
OTHERS = ("RTSP/1.0", "RTSP/1.1", "ICE/1.0", "ICE/1.1")
METHODS = {"RTSP": "OPTIONS", "ICE": "SOURCE", "HTTP": "GET"}
"""A method that llhttp accepts for each protocol."""

FIELDS = {"": b"", "keep-alive": b"Connection: keep-alive\r\n", "proxy": b"Proxy-Connection: keep-alive\r\n"}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


def request(version: str, field: bytes = b"") -> bytes:
    """Build a request with this version."""
    method = METHODS[version.split("/", maxsplit=1)[0]]
    return f"{method} /i/h/a {version}\r\nHost: h.test\r\n".encode() + field + b"\r\n"


@every_field
@pytest.mark.parametrize("version", [*HTTP, *OTHERS])
async def test_a_request_of_another_protocol_is_505(version: str, field: bytes) -> None:
    """The connection closes, and nothing reaches the upstream."""
    async with MemoryUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            await caller.send(request(version, field))
            response = await caller.response()
            assert (response.status, problem(response)["code"]) == (505, "not_implemented")
            assert response.values(b"connection") == [b"close"]
            await caller.until_ended()
        assert upstream.connections == []


SIZED = b"Content-Length: 2\r\n\r\nok"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "framing", "field"),
    [
        ("HTTP/0.9", SIZED, b""),
        ("HTTP/2.0", SIZED, b""),
        ("HTTP/2.0", CHUNKED, b""),
        ("RTSP/1.0", CHUNKED, b""),
        ("HTTP/1.0", CHUNKED, b""),
        ("HTTP/1.0", CHUNKED, b"Connection: close\r\n"),
        ("HTTP/1.0", CHUNKED, b"Connection: keep-alive\r\n"),
        ("HTTP/0.9", SIZED, b"Connection: keep-alive\r\n"),
        ("HTTP/2.0", SIZED, b"Connection: keep-alive\r\n"),
        ("RTSP/1.0", SIZED, b""),
        ("RTSP/1.1", SIZED, b""),
        ("ICE/1.0", SIZED, b""),
        ("HTTP/1.2", SIZED, b"Connection: keep-alive\r\n"),
        ("HTTP/3.0", SIZED, b""),
        ("RTSP/2.0", SIZED, b""),
    ],
)
async def test_response_with_an_invalid_version_is_502(version: str, framing: bytes, field: bytes) -> None:
    """Another protocol, or a transfer coding in HTTP/1.0 (RFC 9112 6.1)."""
    response = version.encode() + b" 200 OK\r\n" + field + framing
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        error = problem(await sidekey.send(get()))
        assert (error["status"], error["code"], error["sent"]) == (502, "upstream_protocol_error", "maybe")
        await (await upstream.connection()).until_ended()
        assert len(wire.requests(upstream.received[0])) == 1


@pytest.mark.parametrize("field", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_a_response_in_either_version_passes_as_http_1_1(version: str, field: bytes) -> None:
    """RFC 9110 2.5: each sender states its own version."""
    response = version.encode() + b" 200 OK\r\n" + field + SIZED
    async with (
        MemoryUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        reply = await sidekey.send(get())
        assert (reply.start, reply.body) == (b"HTTP/1.1 200 OK", b"ok")
