"""Uploads whose bytes look like heads, and uploads to a closed upstream connection."""

from __future__ import annotations

import pytest

from sidekey.snapshot.request_rules import Limits
from support import wire
from support.framing import chunked
from support.memory import MemoryUpstream, running
from support.plane import base_url, eventually, get, integration, request
from support.scripted import ScriptedPlane, settle

H = integration("h", base_url(1))
LINES = b"line\r\n\r\n" * 10_000
HEADS = get("/smuggled") * 1500
BODIES = {"empty lines": LINES, "only line ends": b"\r\n\r\n" * 20_000, "heads": HEADS}


@pytest.mark.parametrize("pipelined", [1, 16])
@pytest.mark.parametrize("framing", ["length", "one chunk", "chunks"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_body_full_of_blank_lines_arrives_byte_for_byte(body: bytes, framing: str, pipelined: int) -> None:
    """In the read of the head or later. The next request follows it."""
    length = framing == "length"
    field = f"Content-Length: {len(body)}" if length else "Transfer-Encoding: chunked"
    coded = body if length else chunked(body, len(body) if framing == "one chunk" else 4999)
    async with MemoryUpstream() as upstream:
        limits = Limits(pipelined=pipelined)
        async with running(integration("h", base_url(upstream.port)), limits=limits) as sidekey:
            async with sidekey.connect() as caller:
                caller.transport.write(request("POST", "/at-once", field) + coded + get("/next"))
                assert [(await caller.response()).status for _ in range(2)] == [200, 200]
            async with sidekey.connect() as caller:
                caller.transport.write(request("POST", "/later", field))
                await eventually(lambda: b"/later" in b"".join(upstream.received))
                caller.transport.write(coded + get("/next"))
                assert [(await caller.response()).status for _ in range(2)] == [200, 200]
        result = upstream.requests
    assert [message.target for message in result] == [b"/api/at-once", b"/api/next", b"/api/later", b"/api/next"]
    assert [message.body == body for message in result] == [True, False, True, False]


@pytest.mark.parametrize("framing", ["Content-Length: 160000", "Transfer-Encoding: chunked"])
async def test_nothing_is_written_to_a_failed_upstream_connection(framing: str) -> None:
    """The loop reports the failure a turn later."""
    sidekey = ScriptedPlane(H, limits=Limits(pipelined=1))
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", framing))
    upstream = await sidekey.upstream()
    attempted: list[object] = []
    upstream.write = attempted.append  # type: ignore[method-assign, assignment]
    upstream.fail(ConnectionResetError())
    piece = LINES[:8000] if "Length" in framing else chunked(LINES[:8000], 8000).removesuffix(b"0\r\n\r\n")
    caller.feed(piece, piece)
    assert attempted == []
    await settle()
    response = wire.first_response(caller.read())
    assert response is not None
    assert (response.status, response.values(b"connection")) == (502, [b"close"])
    caller.feed(piece)
    assert attempted == []
