"""A Sidekey with few file descriptors: idle connections do not block callers or health checks."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.http_get import get, wait_until
from support.plane import eventually
from support.raw_connection import RawConnection, connect
from support.scraping import value_of
from support.sidekey_process import WITHOUT_UVLOOP, SidekeyProcess, descriptors
from support.upstream import OK, RawUpstream, respond_with

FEW = 64
IDLE = 300
REQUEST = b"GET /i/crm/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def config(port: int, more: str = "") -> str:
    """Build a config with integration `crm` at an upstream on this port."""
    return f"""\
{more}
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


both_loops = pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])


@both_loops
async def test_longest_idle_callers_are_closed_first(code: str | None, tmp_path: Path) -> None:
    """With 300 idle callers and 64 descriptors, Sidekey serves a new caller, health checks and a reload."""
    async with RawUpstream() as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(
            SidekeyProcess(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code)
        )
        idle = []
        for number in range(IDLE):
            idle.append(await stack.enter_async_context(connect(child.proxy_port)))
            if number % 2:
                # Half of the callers have sent a request.
                await idle[-1].send(REQUEST)
                assert (await idle[-1].response()).status == 200
        health = await asyncio.to_thread(get, child.admin_port, "/healthz")
        assert (health.status, health.body) == (200, "ok\n")
        async with connect(child.proxy_port) as new:
            await new.send(REQUEST.replace(b"/x", b"/new"))
            assert (await new.response()).status == 200
        assert [request.target for request in upstream.requests if request.target == b"/new"] == [b"/new"]
        await asyncio.gather(*(caller.until_ended() for caller in idle[: IDLE - 20]))
        open_ = [number for number, caller in enumerate(idle) if not caller.ended]
        assert open_
        assert open_ == list(range(open_[0], IDLE))
        child.rewrite(child.config.read_text() + "    description: reloaded\n")
        await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"config reloaded"' in line)
        assert (await asyncio.to_thread(get, child.admin_port, "/readyz")).status == 200
        assert await asyncio.to_thread(child.stop, signal.SIGTERM) == 0
    events = [line for line in child.lines if '"level":"error"' in line or '"level":"critical"' in line]
    assert events == []


@both_loops
async def test_new_caller_is_refused_at_once_without_idle_callers(code: str | None, tmp_path: Path) -> None:
    """The response is 503. Requests in flight and health checks continue."""
    async with RawUpstream(respond_with(OK)) as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(
            SidekeyProcess(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code)
        )
        # Callers with incomplete heads are not idle and have no request in flight.
        for _ in range(10):
            slow = await stack.enter_async_context(connect(child.proxy_port))
            await slow.send(REQUEST[:-2])
        await asyncio.to_thread(get, child.admin_port, "/healthz")
        for _ in range(100):
            async with connect(child.proxy_port) as late:
                response = await late.response()
                assert (response.status, response.values(b"retry-after")) == (503, [b"1"])
                assert b"NOFILE" in response.body
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        await slow.send(b"\r\n")
        assert (await slow.response()).status == 200
        page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
        assert 'sidekey_requests_total{integration="unknown",outcome="overloaded"} 100.0\n' in page


@both_loops
async def test_many_admin_connections_of_a_peer_close_no_connection_of_another(
    code: str | None, tmp_path: Path
) -> None:
    """Sidekey keeps 64 of the 300 connections, and an older idle connection of another peer."""
    async with RawUpstream() as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(SidekeyProcess(config(upstream.port), tmp_path, code=code))
        probe = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

        async def enter(source: str | None = None) -> RawConnection:
            connection = await stack.enter_async_context(connect(child.admin_port, source=source))
            await connection.send(probe)
            assert (await connection.response()).body == b"ok\n"
            return connection

        other = await enter("127.0.0.2")
        many = [await enter() for _ in range(300)]
        await asyncio.gather(*(caller.until_ended() for caller in many[:-64]))
        assert not any(caller.ended for caller in many[-64:])
        await other.send(probe)
        assert (await other.response()).body == b"ok\n"


@both_loops
async def test_admin_connections_take_no_descriptor_of_callers(code: str | None, tmp_path: Path) -> None:
    """Sidekey closes the oldest admin connections, so that health checks work."""
    async with RawUpstream(respond_with(OK)) as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(
            SidekeyProcess(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code)
        )
        idle = [await stack.enter_async_context(connect(child.admin_port)) for _ in range(100)]
        async with connect(child.proxy_port) as caller:
            await caller.send(REQUEST)
            assert (await caller.response()).status == 200
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        await asyncio.gather(*(caller.until_ended() for caller in idle[:-4]))
        assert not idle[-1].ended


@both_loops
async def test_idle_upstream_connections_are_closed_for_new_ones(code: str | None, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(RawUpstream()) for _ in range(60)]
        stanzas = "".join(
            f"  i{number}:\n    endpoint_prefix: http://127.0.0.1:{upstream.port}\n"
            "    auth: {type: basic, username: svc, password: {insecure_value: secret}}\n"
            for number, upstream in enumerate(upstreams)
        )
        child = stack.enter_context(
            SidekeyProcess(f"integrations:\n{stanzas}", tmp_path, wrapper=descriptors(FEW), code=code)
        )
        caller = await stack.enter_async_context(connect(child.proxy_port))
        for _ in range(2):
            for number in range(len(upstreams)):
                await caller.send(REQUEST.replace(b"crm", b"i%d" % number))
                assert (await caller.response()).status == 200
        await asyncio.to_thread(wait_until, lambda: open_files(child) < 60)
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200


@both_loops
async def test_hanging_calls_take_no_descriptor_of_requests(code: str | None, tmp_path: Path) -> None:
    """Calls to a token endpoint that never responds may use half of the descriptors."""
    async with RawUpstream() as upstream, RawUpstream(respond_with()) as hanging, AsyncExitStack() as stack:
        stanzas = config(upstream.port) + "".join(
            f"  t{number}:\n    auth: {{type: oauth2, token_endpoint: 'https://127.0.0.1:{hanging.port}/token', "
            "client_id: me, client_secret: {insecure_value: secret}}\n"
            for number in range(60)
        )
        child = stack.enter_context(SidekeyProcess(stanzas, tmp_path, wrapper=descriptors(FEW), code=code))
        for number in range(60):
            async with connect(child.proxy_port) as leaving:
                await leaving.send(REQUEST.replace(b"crm", b"t%d" % number))
                await asyncio.to_thread(wait_until, lambda: in_flight(child) == 1)
            await asyncio.to_thread(wait_until, lambda: in_flight(child) == 0)
            # The upstream may see the next call before the end of the one that has timed out.
            await eventually(
                lambda: sum(not connection.ended and not connection.lost for connection in hanging.connections) <= 2
            )
        async with connect(child.proxy_port) as caller:
            await caller.send(REQUEST)
            assert (await caller.response()).status == 200
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
        assert 'outcome="caller_gone"} 1.0\n' in page
        assert await asyncio.to_thread(child.stop, signal.SIGTERM) == 0
    assert [line for line in child.lines if '"level":"error"' in line or '"level":"critical"' in line] == []


def in_flight(child: SidekeyProcess) -> int:
    """Return the number of requests in flight."""
    return int(value_of(get(child.admin_port, "/metrics").body, "sidekey_requests_in_flight"))


def open_files(child: SidekeyProcess) -> int:
    """Return the number of open descriptors of the process."""
    return int(value_of(get(child.admin_port, "/metrics").body, "process_open_fds"))
