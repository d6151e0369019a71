"""A slow upstream does not take the slots of other upstreams."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.http_get import get, wait_until
from support.raw_connection import RawConnection, connect
from support.sidekey_process import SidekeyProcess
from support.upstream import OK, RawUpstream, respond_with


def config(slow: int, quick: int, limits: str = "", max_in_flight: int = 7) -> str:
    """Build a config with integrations `slow` and `quick` at upstreams on these ports."""
    return f"""\
limits: {{in_flight: {max_in_flight}}}
integrations:
  slow:
    endpoint_prefix: http://127.0.0.1:{slow}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
    {limits}
  quick:
    endpoint_prefix: http://127.0.0.1:{quick}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


def gauges(child: SidekeyProcess) -> tuple[float, float]:
    """Return the requests in flight, and the utilization of the fullest origin."""
    page = get(child.admin_port, "/metrics").body.splitlines()
    return (
        float(next(line.split()[1] for line in page if line.startswith("sidekey_requests_in_flight "))),
        float(next(line.split()[1] for line in page if line.startswith("sidekey_in_flight_share "))),
    )


def refusal(child: SidekeyProcess) -> str:
    """Return why Sidekey refuses the next request to `slow`. The text must not name the upstream."""
    response = get(child.proxy_port, "/i/slow/over")
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    problem = json.loads(response.body)
    assert (problem["code"], problem["integration"], problem["sent"]) == ("overloaded", "slow", "no")
    assert "127.0.0.1" not in response.body
    return str(problem["detail"])


async def fill(stack: AsyncExitStack, child: SidekeyProcess, count: int) -> list[RawConnection]:
    """Send a number of requests to `slow`, each on its own connection."""
    callers = [await stack.enter_async_context(connect(child.proxy_port)) for _ in range(count)]
    for caller in callers:
        await caller.send(b"GET /i/slow/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return callers


@pytest.mark.parametrize(
    ("limits", "max_in_flight", "limit"),
    [
        ("", 4, "one origin has half of limits.in_flight in flight, which is the most that one may have"),
        ("limits: {in_flight: 6}", 6, "the integration's own limits.in_flight is reached"),
        ("limits: {in_flight: 1}", 1, "the integration's own limits.in_flight is reached"),
    ],
    ids=["half", "more", "less"],
)
async def test_slow_upstream_leaves_slots_for_other_upstreams(
    limits: str, max_in_flight: int, limit: str, tmp_path: Path
) -> None:
    """The limit holds before and after a reload, and again after all requests have ended."""
    async with RawUpstream(respond_with()) as slow, RawUpstream() as quick, AsyncExitStack() as stack:
        with SidekeyProcess(config(slow.port, quick.port, limits), tmp_path) as child:
            callers = await fill(stack, child, max_in_flight)
            last = await slow.connection(max_in_flight - 1)
            await last.request()
            assert await asyncio.to_thread(gauges, child) == (max_in_flight, 1.0)
            assert await asyncio.to_thread(refusal, child) == limit
            assert (await asyncio.to_thread(get, child.proxy_port, "/i/quick/y")).status == 200
            # With a new base, Sidekey builds `slow` again. Requests in flight still count.
            text = child.config.read_text()
            child.rewrite(text.replace(f"http://127.0.0.1:{slow.port}", f"http://127.0.0.1:{slow.port}/new"))
            await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"config reloaded"' in line)
            assert await asyncio.to_thread(refusal, child) == limit
            assert (await asyncio.to_thread(get, child.proxy_port, "/i/quick/y")).status == 200
            for connection in slow.connections:
                await connection.send(OK)
            for caller in callers:
                assert (await caller.response()).status == 200
            await asyncio.to_thread(wait_until, lambda: gauges(child) == (0, 0.0))
            more = await fill(stack, child, max_in_flight)
            await asyncio.to_thread(wait_until, lambda: gauges(child) == (max_in_flight, 1.0))
            assert await asyncio.to_thread(refusal, child) == limit
            assert (await asyncio.to_thread(get, child.proxy_port, "/i/quick/y")).status == 200
            assert len(slow.requests) == 2 * max_in_flight
            assert [request.target for request in quick.requests] == [b"/y"] * 3
            assert all(not caller.received for caller in more)
