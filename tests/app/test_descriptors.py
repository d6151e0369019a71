"""A Sidekey that may open few files: callers who stay without a request take neither others' place nor the probes'."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.child import WITHOUT_UVLOOP, Child, descriptors
from support.http_get import get, within
from support.plane import eventually
from support.raw_connection import RawConnection, connect
from support.upstream import OK, RawUpstream, answering

FEW = 64
IDLE = 300
REQUEST = b"GET /i/crm/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def config(port: int, more: str = "") -> str:
    """Integration `crm` at an upstream on this port."""
    return f"""\
{more}
integrations:
  crm:
    endpoint_prefix: http://127.0.0.1:{port}
    auth: {{type: basic, username: svc, password: {{insecure_value: secret}}}}
"""


both_loops = pytest.mark.parametrize("code", [None, WITHOUT_UVLOOP], ids=["uvloop", "asyncio"])


@both_loops
async def test_idle_callers_make_room_the_longest_idle_first(code: str | None, tmp_path: Path) -> None:
    """300 of them with 64 descriptors: a new caller is served, the probes answer, a reload works, nothing is logged."""
    async with RawUpstream() as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(Child(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code))
        idle = []
        for number in range(IDLE):
            idle.append(await stack.enter_async_context(connect(child.proxy_port)))
            if number % 2:
                # Half of them have had a request, the others none.
                await idle[-1].send(REQUEST)
                assert (await idle[-1].response()).status == 200
        health = await asyncio.to_thread(get, child.admin_port, "/healthz")
        assert (health.status, health.body) == (200, "ok\n")
        async with connect(child.proxy_port) as new:
            await new.send(REQUEST.replace(b"/x", b"/new"))
            assert (await new.response()).status == 200
        assert [each.target for each in upstream.requests if each.target == b"/new"] == [b"/new"]
        await asyncio.gather(*(each.until_ended() for each in idle[: IDLE - 20]))
        open_ = [number for number, each in enumerate(idle) if not each.ended]
        assert open_
        assert open_ == list(range(open_[0], IDLE))
        child.rewrite(child.config.read_text() + "    description: reloaded\n")
        await asyncio.to_thread(child.wait_for_line, lambda line: '"event":"config reloaded"' in line)
        assert (await asyncio.to_thread(get, child.admin_port, "/readyz")).status == 200
        assert await asyncio.to_thread(child.stop, signal.SIGTERM) == 0
    events = [line for line in child.lines if '"level":"error"' in line or '"level":"critical"' in line]
    assert events == []


@both_loops
async def test_where_nobody_is_idle_a_new_caller_is_told_at_once(code: str | None, tmp_path: Path) -> None:
    """503 with Retry-After, by the limit's name; the requests under way go on, and so do the probes."""
    async with RawUpstream(answering(OK)) as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(Child(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code))
        # Heads that do not end: no idle connections, and no requests in flight either.
        for _ in range(10):
            slow = await stack.enter_async_context(connect(child.proxy_port))
            await slow.send(REQUEST[:-2])
        await asyncio.to_thread(get, child.admin_port, "/healthz")
        for _ in range(100):
            async with connect(child.proxy_port) as late:
                answer = await late.response()
                assert (answer.status, answer.values(b"retry-after")) == (503, [b"1"])
                assert b"NOFILE" in answer.body
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        await slow.send(b"\r\n")
        assert (await slow.response()).status == 200
        page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
        assert 'sidekey_requests_total{integration="unknown",outcome="overloaded"} 100.0\n' in page


@both_loops
async def test_a_peer_with_many_admin_connections_closes_nobody_else_s(code: str | None, tmp_path: Path) -> None:
    """300 of them: 64 stay, and so does the idle connection that another had before."""
    async with RawUpstream() as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(Child(config(upstream.port), tmp_path, code=code))
        probe = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

        async def enter(source: str | None = None) -> RawConnection:
            connection = await stack.enter_async_context(connect(child.admin_port, source=source))
            await connection.send(probe)
            assert (await connection.response()).body == b"ok\n"
            return connection

        other = await enter("127.0.0.2")
        many = [await enter() for _ in range(300)]
        await asyncio.gather(*(each.until_ended() for each in many[:-64]))
        assert not any(each.ended for each in many[-64:])
        await other.send(probe)
        assert (await other.response()).body == b"ok\n"


@both_loops
async def test_connections_to_the_admin_listener_take_nobody_else_s_place(code: str | None, tmp_path: Path) -> None:
    """Nor do they keep the probes out: the oldest make room."""
    async with RawUpstream(answering(OK)) as upstream, AsyncExitStack() as stack:
        child = stack.enter_context(Child(config(upstream.port), tmp_path, wrapper=descriptors(FEW), code=code))
        idle = [await stack.enter_async_context(connect(child.admin_port)) for _ in range(100)]
        async with connect(child.proxy_port) as caller:
            await caller.send(REQUEST)
            assert (await caller.response()).status == 200
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        await asyncio.gather(*(each.until_ended() for each in idle[:-4]))
        assert not idle[-1].ended


@both_loops
async def test_connections_to_upstreams_find_descriptors(code: str | None, tmp_path: Path) -> None:
    """Idle ones of other upstreams make room, so that no request fails for want of one."""
    async with AsyncExitStack() as stack:
        upstreams = [await stack.enter_async_context(RawUpstream()) for _ in range(60)]
        stanzas = "".join(
            f"  i{number}:\n    endpoint_prefix: http://127.0.0.1:{upstream.port}\n"
            "    auth: {type: basic, username: svc, password: {insecure_value: secret}}\n"
            for number, upstream in enumerate(upstreams)
        )
        child = stack.enter_context(Child(f"integrations:\n{stanzas}", tmp_path, wrapper=descriptors(FEW), code=code))
        caller = await stack.enter_async_context(connect(child.proxy_port))
        for _ in range(2):
            for number in range(len(upstreams)):
                await caller.send(REQUEST.replace(b"crm", b"i%d" % number))
                assert (await caller.response()).status == 200
        await asyncio.to_thread(within, lambda: open_files(child) < 60)
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200


@both_loops
async def test_calls_that_hang_take_nobody_else_s_place(code: str | None, tmp_path: Path) -> None:
    """A token endpoint that never responds has half of the descriptors for calls; the others wait without one.

    Requests for 60 integrations come and go, each with its own call; then all else is served as before.
    """
    async with RawUpstream() as upstream, RawUpstream(answering()) as hanging, AsyncExitStack() as stack:
        stanzas = config(upstream.port) + "".join(
            f"  t{number}:\n    auth: {{type: oauth2, token_endpoint: 'https://127.0.0.1:{hanging.port}/token', "
            "client_id: me, client_secret: {insecure_value: secret}}\n"
            for number in range(60)
        )
        child = stack.enter_context(Child(stanzas, tmp_path, wrapper=descriptors(FEW), code=code))
        for number in range(60):
            async with connect(child.proxy_port) as leaving:
                await leaving.send(REQUEST.replace(b"crm", b"t%d" % number))
                await asyncio.to_thread(within, lambda: in_flight(child) == 1)
            await asyncio.to_thread(within, lambda: in_flight(child) == 0)
            # A call that has timed out makes room for the next; its end may arrive after the other's beginning.
            await eventually(lambda: sum(not each.ended and not each.lost for each in hanging.connections) <= 2)
        async with connect(child.proxy_port) as caller:
            await caller.send(REQUEST)
            assert (await caller.response()).status == 200
        assert (await asyncio.to_thread(get, child.admin_port, "/healthz")).status == 200
        page = (await asyncio.to_thread(get, child.admin_port, "/metrics")).body
        assert 'outcome="caller_gone"} 1.0\n' in page
        assert await asyncio.to_thread(child.stop, signal.SIGTERM) == 0
    assert [line for line in child.lines if '"level":"error"' in line or '"level":"critical"' in line] == []


def in_flight(child: Child) -> int:
    """How many requests are under way."""
    page = get(child.admin_port, "/metrics").body.splitlines()
    return int(float(next(line.split()[1] for line in page if line.startswith("sidekey_requests_in_flight "))))


def open_files(child: Child) -> int:
    """How many descriptors the process has open."""
    page = get(child.admin_port, "/metrics").body.splitlines()
    return int(float(next(line.split()[1] for line in page if line.startswith("process_open_fds "))))
