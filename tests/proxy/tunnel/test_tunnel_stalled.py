"""Callers that begin a tunnel and say no more: each is closed in time, and costs no descriptor then."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from sidekey.proxy.downstream.connection import LINGER
from sidekey.snapshot.request_rules import Timeouts
from support.leak_check import nothing_left
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
    """No byte after the 200."""


async def half_a_hello(raw: RawConnection, caller: TlsCaller) -> None:
    """As a caller that is cut off while it sends."""
    hello = caller.hello()
    await raw.send(hello[: len(hello) // 2])


async def a_hello_alone(raw: RawConnection, caller: TlsCaller) -> None:
    """The certificate is sent, and not replied to."""
    size = len(raw.received)
    await raw.send(caller.hello())
    await raw.until_received(size + 1)


async def a_handshake_alone(raw: RawConnection, caller: TlsCaller) -> None:
    """TLS is there, and no request comes in it."""
    await caller.shake()


CASES = (
    (nothing, {"timeout": CALLERS}),
    (half_a_hello, {"timeout": CALLERS}),
    (a_hello_alone, {"timeout": CALLERS}),
    (a_handshake_alone, {"opened": CALLERS}),
)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(("stall", "outcomes"), CASES)
async def test_a_tunnel_that_stalls_ends_in_time(
    ca: Authority, stall: Stall, outcomes: dict[str, int], version: ssl.TLSVersion
) -> None:
    timeouts = Timeouts(request_head=HEAD, keep_alive=HEAD)
    async with (
        running(integration("h", "https://up.test/api"), leaves=IssuedLeaves(ca), timeouts=timeouts) as sidekey,
        nothing_left(),
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
            sidekey.wait(HEAD / 2)
            assert len(sidekey.plane.worker.connections) == CALLERS
            assert not any(raw.lost or raw.ended for raw in stalled)
            sidekey.wait(HEAD)
            # Where TLS is there, its end is left to the caller for so long.
            sidekey.wait(LINGER)
            # Their descriptors are given back before they close theirs.
            await eventually(lambda: not sidekey.plane.worker.connections)
            for raw in stalled:
                await raw.until_ended()
        assert sidekey.metrics.tunnel_outcomes == {("h", outcome): count for outcome, count in outcomes.items()}
