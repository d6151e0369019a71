"""Callers cannot make a tunnel keep more bytes, or stay longer, than allowed."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.proxy.transport import WRITE_BUFFER
from support.leaves import IssuedLeaves
from support.plane import UPSTREAM, base_url, eventually, integration, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.tunnels import connect_request, tunnel
from support.upstream import RawUpstream, always_ok

HOSTS = {"other.test": ("127.0.0.1",), "up.test": ("127.0.0.1",)}
COVERED = integration("h", "https://up.test/api")


async def silent(connection: RawConnection) -> None:
    """Record only, and send nothing."""


async def test_passthrough_tunnel_with_a_closed_target_ends_when_the_caller_resets() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(connect_request(f"other.test:{upstream.port}", user=""))
        assert (await caller.response(to_head=True)).status == 200
        far = upstream.connections[-1]
        caller.transport.pause_reading()
        (passage,) = sidekey.plane.worker.connections
        end = passage.upstream_end  # type: ignore[attr-defined]
        while not passage.unsent:
            await far.send(bytes(16 << 10))
            await asyncio.sleep(0)
        caller.transport.write_eof()
        await eventually(lambda: far.ended)
        far.close()
        await eventually(lambda: end.is_lost)
        assert passage.unsent
        caller.reset()
        await eventually(lambda: sidekey.metrics.tunnels["passed"] == 0)


async def test_plain_tunnel_pauses_a_caller_that_fills_the_queue(ca: Authority) -> None:
    """The bytes after the CONNECT fill the queue."""
    async with RawUpstream(silent) as upstream:
        authority = f"{UPSTREAM}:{upstream.port}"
        request = f"GET /api/a HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
        async with (
            running(integration("h", base_url(upstream.port)), leaves=IssuedLeaves(ca)) as sidekey,
            sidekey.connect() as raw,
        ):
            await raw.send(connect_request(authority) + request * 4)
            assert (await raw.response(to_head=True)).status == 200
            await eventually(lambda: len(upstream.connections) == 1)
            raw.transport.write(request * 200_000)
            for _ in range(2000):
                await asyncio.sleep(0)
            assert raw.transport.get_write_buffer_size() > 1 << 20


@pytest.mark.parametrize("passing", [False, True])
async def test_tunnel_knows_that_its_caller_is_full(ca: Authority, passing: bool) -> None:
    """The transport reported it when Sidekey wrote 200, and does not repeat it."""

    async def flood(connection: RawConnection) -> None:
        await connection.until_contains(b"\r\n\r\n")
        connection.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20) + bytes(64 << 20))
        await connection.until_lost()

    async with RawUpstream(flood) as upstream:
        host = "other.test" if passing else UPSTREAM
        async with (
            running(
                integration("h", base_url(upstream.port)),
                passing=True,
                pass_ports=[upstream.port],
                hosts=HOSTS,
                leaves=IssuedLeaves(ca),
            ) as sidekey,
            sidekey.connect() as raw,
        ):
            raw.transport.pause_reading()
            await eventually(lambda: sidekey.plane.worker.connections)
            (connection,) = sidekey.plane.worker.connections
            transport = connection.transport  # type: ignore[attr-defined]
            for _ in range(200):
                # Until the kernels have taken all that they do.
                if not transport.get_write_buffer_size():
                    transport.write(bytes(256 << 10))
                await asyncio.sleep(0)
            transport.write(bytes(WRITE_BUFFER - transport.get_write_buffer_size()))
            request = f"GET /api/a HTTP/1.1\r\nHost: {UPSTREAM}:{upstream.port}\r\n\r\n".encode()
            await raw.send(connect_request(f"{host}:{upstream.port}", user="" if passing else "h:x") + request)
            mode = "passed" if passing else "plain"
            await eventually(lambda: sidekey.metrics.tunnels[mode] == 1)
            for _ in range(2000):
                await asyncio.sleep(0)
            assert WRITE_BUFFER < transport.get_write_buffer_size() < WRITE_BUFFER + (512 << 10)


async def test_target_cached_by_a_tunnel_serves_no_request_without_an_integration(ca: Authority) -> None:
    async with (
        RawUpstream(always_ok, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(
            integration("h", base_url(upstream.port, "/api", scheme="https"), trust=ca.trust), leaves=IssuedLeaves(ca)
        ) as sidekey,
    ):
        authority = f"{UPSTREAM}:{upstream.port}"
        async with tunnel(sidekey, ca, authority) as caller:
            await caller.send(f"GET /api/a HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            assert (await caller.response()).status == 200
        async with sidekey.connect() as raw:
            await raw.send(b"GET /i/h/b HTTP/1.1\r\nHost: h.test\r\n\r\n")
            assert (await raw.response()).status == 200
            await raw.send(f"GET https://{authority}/api/a HTTP/1.1\r\nHost: h.test\r\n\r\n".encode())
            assert (await raw.response()).status == 407
        assert [item.target for item in upstream.requests] == [b"/api/a", b"/api/b"]
