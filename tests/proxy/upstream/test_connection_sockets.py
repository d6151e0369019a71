"""Connections to upstreams on real sockets and TLS: close, and probes of idle connections."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import pytest

from support.plane import UPSTREAM, base_url, get, https_integration, integration, problem, request, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream, respond_with

BIG = bytes(range(256)) * 12_000
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG


@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "bare FIN"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_close_delimited_response_over_tls(orderly: bool, version: str, ca: Authority) -> None:
    """Without close_notify, an attacker could have closed the connection, so the response is truncated."""
    end = asyncio.Event()

    async def script(connection: RawConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"hello")
        if not orderly:
            # A half of TCP closed below TLS, with no alert before it.
            await end.wait()
            with socket.socket(fileno=os.dup(connection.transport.get_extra_info("socket").fileno())) as below:
                below.shutdown(socket.SHUT_WR)
        else:
            connection.close()

    async with (
        RawUpstream(script, ssl_context=ca.server_context(UPSTREAM)) as upstream,
        running(https_integration(upstream.port, ca)) as sidekey,
        sidekey.connect() as caller,
    ):
        await caller.send(get(version=version))
        await caller.until_contains(b"hello")
        end.set()
        if orderly:
            assert (await caller.response()).body == b"hello"
        else:
            await caller.until_lost()
            assert isinstance(caller.error, ConnectionResetError)
            assert not caller.ended
            await sidekey.wait_for_outcomes("h", upstream_protocol_error=1)


async def test_https_upstream_streams_both_ways(ca: Authority) -> None:
    context: ssl.SSLContext = ca.server_context(UPSTREAM)
    async with RawUpstream(respond_with(LONG), ssl_context=context) as upstream:
        async with running(https_integration(upstream.port, ca)) as sidekey:
            assert (await sidekey.send(request("POST", body=BIG))).body == BIG
        assert upstream.requests[0].body == BIG


async def test_integrations_with_different_cas_share_no_connection(ca: Authority) -> None:
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        url = base_url(upstream.port, scheme="https")
        mine = integration("h", url, trust=ca.trust)
        async with running(mine, integration("o", url)) as sidekey:
            assert (await sidekey.send(get())).status == 200
            assert problem(await sidekey.send(get(name="o")))["code"] == "upstream_tls_failed"


async def test_probe_finds_a_closed_connection() -> None:
    """Before the loop reports FIN. Even a POST uses a new connection."""
    async with RawUpstream(respond_with(OK)) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.send(get())
        (pool,) = sidekey.plane.pools.known()
        (connection,) = pool.idle
        # As after a second of idleness, and with the loop kept from reading.
        connection.idle_since -= 60
        connection.transport.pause_reading()
        upstream.connections[0].close()
        await upstream.connections[0].until_lost()
        assert pool.take_idle() is None
        assert pool.idle == ()


async def test_long_idle_connection_is_reused_if_the_probe_succeeds() -> None:
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.send(get())
        (pool,) = sidekey.plane.pools.known()
        (connection,) = pool.idle
        connection.idle_since -= 60
        assert pool.take_idle() is connection
        connection.idle_since -= 60
        pool.offer(connection)
        assert (await sidekey.send(get())).status == 200
        assert len(upstream.connections) == 1
