"""The req rows of tests/cases/faults.tsv with slow callers, played by slowhttptest."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sidekey.snapshot.request_rules import Timeouts
from support import programs, wire
from support.plane import RunningPlane, base_url, eventually, integration, running
from support.slowhttptest import attack
from support.upstream import RawUpstream, respond_with

HASTE = Timeouts(request_head=2.0, idle=0.4, write=0.4)
"""Two seconds for a head, so that a probe of the program's gets its own through on a busy machine as well."""


def url(sidekey: RunningPlane) -> str:
    """Return a URL of the reverse proxy."""
    return f"http://127.0.0.1:{sidekey.port}/i/h/a"


async def test_slow_heads_are_closed() -> None:
    """slowhttptest -H loses every connection at timeouts.request_head, and its probes get responses."""
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), timeouts=HASTE) as sidekey:
            ended = await attack("-H", url=url(sidekey))
            assert (ended.reason, ended.served) == ("No open connections left", True), ended.text
            assert sidekey.metrics.unknown.outcomes.keys() == {"request_timeout"}
        assert len(upstream.requests) == 1


async def test_slow_bodies_are_closed() -> None:
    """slowhttptest -B loses every connection at timeouts.idle, and the upstream gets no complete request."""
    async with RawUpstream() as upstream:
        async with running(integration("h", base_url(upstream.port)), timeouts=HASTE) as sidekey:
            ended = await attack("-B", url=url(sidekey))
            assert (ended.reason, ended.served) == ("No open connections left", True), ended.text
            assert sidekey.metrics.stats("h").outcomes["request_timeout"] > 0
        uploads = [data for data in upstream.received if data.startswith(b"POST")]
        assert uploads
        assert all(wire.first_request(data) is None for data in uploads)


async def test_slow_readers_are_closed() -> None:
    """slowhttptest -X loses every connection at timeouts.write."""
    # Here, since a skip within the task would not reach the test.
    programs.require("slowhttptest")
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000
    async with (
        RawUpstream(respond_with(response)) as upstream,
        running(integration("h", base_url(upstream.port)), timeouts=HASTE) as sidekey,
    ):
        slow = asyncio.create_task(attack("-X", "-w", "10", "-y", "20", "-z", "5", url=url(sidekey), connections=10))
        await eventually(lambda: sidekey.metrics.stats("h").outcomes.get("caller_gone", 0) >= 10)
        await eventually(lambda: not sidekey.plane.worker.connections)
        assert not slow.done()
        slow.cancel()
        with suppress(asyncio.CancelledError):
            await slow
