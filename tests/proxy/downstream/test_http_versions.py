"""Only HTTP/1.1 and HTTP/1.0 are spoken, to callers and to upstreams; llhttp reads more protocols than these."""

from __future__ import annotations

import asyncio

import pytest

from support import wire
from support.memory import Upstream, running
from support.plane import base_url, get, integration, problem
from support.upstream import answering

HTTP = ("HTTP/2.0", "HTTP/0.9")
OTHERS = ("RTSP/1.0", "RTSP/1.1", "ICE/1.0", "ICE/1.1")
METHODS = {"RTSP": "OPTIONS", "ICE": "SOURCE", "HTTP": "GET"}
"""What llhttp takes each protocol's requests to be."""

FIELDS = {"": b"", "keep-alive": b"Connection: keep-alive\r\n", "proxy": b"Proxy-Connection: keep-alive\r\n"}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


def request(version: str, field: bytes = b"") -> bytes:
    """A request that would be forwarded, but for its version."""
    method = METHODS[version.split("/", maxsplit=1)[0]]
    return f"{method} /i/h/a {version}\r\nHost: h.test\r\n".encode() + field + b"\r\n"


@every_field
@pytest.mark.parametrize("version", [*HTTP, *OTHERS])
async def test_a_request_of_another_protocol_is_505(version: str, field: bytes) -> None:
    """not_implemented, the end of the connection, and nothing reaches the upstream."""
    async with Upstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            await caller.send(request(version, field))
            answer = await caller.response()
            assert (answer.status, problem(answer)["code"]) == (505, "not_implemented")
            assert answer.values(b"connection") == [b"close"]
            await caller.until_ended()
        assert upstream.connections == []


@pytest.mark.parametrize("version", HTTP)
async def test_however_its_head_is_cut_into_reads(version: str) -> None:
    """Byte by byte it is the same request."""
    raw = request(version)
    async with Upstream() as upstream:
        async with running(integration("h", base_url(upstream.port))) as sidekey, sidekey.connect() as caller:
            for at in range(len(raw)):
                if caller.received:
                    break
                caller.transport.write(raw[at : at + 1])
                await asyncio.sleep(0)
            assert (await caller.response()).status == 505
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
    ],
)
async def test_a_response_in_no_version_that_fits_it_is_502(version: str, framing: bytes, field: bytes) -> None:
    """Another protocol, or a transfer coding in HTTP/1.0, which is invalid framing (RFC 9112 6.1)."""
    answer = version.encode() + b" 200 OK\r\n" + field + framing
    async with (
        Upstream(answering(answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        said = problem(await sidekey.ask(get()))
        assert (said["status"], said["code"], said["sent"]) == (502, "upstream_protocol_error", "maybe")
        await (await upstream.connection()).until_ended()
        assert len(wire.requests(upstream.received[0])) == 1


@pytest.mark.parametrize("field", [b"", b"Connection: keep-alive\r\n", b"Connection: close\r\n"])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_a_response_in_either_version_passes_as_http_1_1(version: str, field: bytes) -> None:
    """RFC 9110 2.5: the version is that of the one who sends."""
    answer = version.encode() + b" 200 OK\r\n" + field + SIZED
    async with (
        Upstream(answering(answer)) as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
    ):
        reply = await sidekey.ask(get())
        assert (reply.start, reply.body) == (b"HTTP/1.1 200 OK", b"ok")
