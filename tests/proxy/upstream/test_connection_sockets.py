"""What a connection to an upstream is in the kernel and under TLS: its end, and whether it is still good."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import pytest

from sidekey.snapshot.snapshot import Integration
from support.plane import UPSTREAM, base_url, get, integration, problem, request, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.upstream import OK, RawUpstream, answering

BIG = bytes(range(256)) * 12_000
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG


def secure(port: int, ca: Authority) -> Integration:
    """An integration whose upstream is https on this port."""
    return integration("h", base_url(port, scheme="https"), trust=ca.trust)


@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "bare FIN"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_close_delimited_response_over_tls(orderly: bool, version: str, ca: Authority) -> None:
    """Never 4: without close_notify anyone on the way could have ended it, so it is cut rather than complete."""
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
        running(secure(upstream.port, ca)) as sidekey,
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
            await sidekey.outcomes("h", upstream_protocol_error=1)


async def test_a_https_upstream_streams(ca: Authority) -> None:
    """A long response and a long upload over TLS, byte for byte."""
    context: ssl.SSLContext = ca.server_context(UPSTREAM)
    async with RawUpstream(answering(LONG), ssl_context=context) as upstream:
        async with running(secure(upstream.port, ca)) as sidekey:
            assert (await sidekey.ask(request("POST", body=BIG))).body == BIG
        assert upstream.requests[0].body == BIG


async def test_trust_divides_pools(ca: Authority) -> None:
    """A connection that was verified against one CA says nothing to an integration that trusts another."""
    async with RawUpstream(ssl_context=ca.server_context(UPSTREAM)) as upstream:
        url = base_url(upstream.port, scheme="https")
        mine = integration("h", url, trust=ca.trust)
        async with running(mine, integration("o", url)) as sidekey:
            assert (await sidekey.ask(get())).status == 200
            assert problem(await sidekey.ask(get(name="o")))["code"] == "upstream_tls_failed"


async def test_a_connection_that_died_unseen_is_found_by_a_probe() -> None:
    """An end of stream that the loop has not told yet is seen before the request is sent, even for a POST."""
    async with RawUpstream(answering(OK)) as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.ask(get())
        (pool,) = sidekey.plane.pools.known()
        (connection,) = pool.idle
        # As after a second of idleness, and with the loop kept from reading.
        connection.idle_since -= 60
        connection.transport.pause_reading()
        upstream.connections[0].close()
        await upstream.connections[0].until_lost()
        assert pool.take() is None
        assert pool.idle == ()


async def test_a_connection_that_was_idle_for_long_is_used_where_it_is_still_good() -> None:
    """The probe says so."""
    async with RawUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        await sidekey.ask(get())
        (pool,) = sidekey.plane.pools.known()
        (connection,) = pool.idle
        connection.idle_since -= 60
        assert pool.take() is connection
        connection.idle_since -= 60
        pool.offer(connection)
        assert (await sidekey.ask(get())).status == 200
        assert len(upstream.connections) == 1
