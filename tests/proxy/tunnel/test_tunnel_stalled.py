"""Callers that open a tunnel and stall: Sidekey closes each in time, and releases its descriptor."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from sidekey.proxy.downstream.connection import LINGER
from sidekey.snapshot.request_rules import Timeouts
from support.leak_check import assert_no_leaks
from support.leaves import IssuedLeaves
from support.plane import UPSTREAM, eventually, integration, running
from support.private_ca import Authority
from support.raw_connection import RawConnection
from support.tunnels import TlsCaller, client_context, connect_request

CALLERS = 20
HEAD = 120.0
"""Seconds for the handshake, and then for a request to begin.

All callers have come to their stall in half of that, also on a slow machine."""

Stall = Callable[[RawConnection, TlsCaller], Awaitable[None]]


async def nothing(raw: RawConnection, caller: TlsCaller) -> None:
    """Send nothing after the 200."""


async def half_a_hello(raw: RawConnection, caller: TlsCaller) -> None:
    """Send a part of a ClientHello."""
    hello = caller.hello()
    await raw.send(hello[: len(hello) // 2])


async def a_hello_alone(raw: RawConnection, caller: TlsCaller) -> None:
    """Send a ClientHello, and ignore the certificate."""
    size = len(raw.received)
    await raw.send(caller.hello())
    await raw.until_received(size + 1)


async def a_handshake_alone(raw: RawConnection, caller: TlsCaller) -> None:
    """Complete the handshake, and send no request."""
    await caller.handshake()


CASES = (
    (nothing, {"timeout": CALLERS}),
    (half_a_hello, {"timeout": CALLERS}),
    (a_hello_alone, {"timeout": CALLERS}),
    (a_handshake_alone, {"opened": CALLERS}),
)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("stall", "outcomes"), CASES)
async def test_stalled_tunnel_is_closed(
    ca: Authority, stall: Stall, outcomes: dict[str, int], version: ssl.TLSVersion
) -> None:
    timeouts = Timeouts(request_head=HEAD, keep_alive=HEAD)
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), timeouts=timeouts) as sidekey,
        assert_no_leaks(),
    ):
        async with AsyncExitStack() as stack:
            stalled = []
            for _ in range(CALLERS):
                raw = await stack.enter_async_context(sidekey.connect())
                await raw.send(connect_request("up.test:443"))
                assert (await raw.response(to_head=True)).status == 200
                await stall(raw, TlsCaller(raw, client_context(ca, version), UPSTREAM))
                stalled.append(raw)
            await eventually(lambda: sidekey.metrics.tunnels["terminated"] == outcomes.get("opened", 0))
            sidekey.advance(HEAD / 2)
            assert len(sidekey.plane.worker.connections) == CALLERS
            assert not any(raw.lost or raw.ended for raw in stalled)
            sidekey.advance(HEAD)
            # Where TLS is there, its end is left to the caller for so long.
            sidekey.advance(LINGER)
            # Their descriptors are given back before they close theirs.
            await eventually(lambda: not sidekey.plane.worker.connections)
            for raw in stalled:
                await raw.until_ended()
        assert sidekey.metrics.tunnel_outcomes == {("h", outcome): count for outcome, count in outcomes.items()}
