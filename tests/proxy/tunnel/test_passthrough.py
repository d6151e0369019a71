"""Tunnels whose bytes pass unchanged: `forward.unmatched: pass`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidekey.policy.decision import TunnelAdmitted
from sidekey.policy.urls import Authority
from sidekey.proxy.deadlines import NEVER
from sidekey.proxy.transport import WRITE_BUFFER
from sidekey.proxy.tunnel.passthrough import PassthroughTunnel
from sidekey.proxy.tunnel.registry import Tunnels
from sidekey.proxy.tunnel.tunnel import ConnectInfo, TunnelRecord
from sidekey.snapshot.request_rules import Limits, Timeouts
from support.blackhole import Blackhole
from support.plane import RunningPlane, eventually, integration, running
from support.ports import free_port
from support.raw_connection import DEADLINE, RawConnection
from support.scripted import RecordingTransport, ScriptedPlane, settle
from support.tunnels import connect_request
from support.upstream import RawUpstream

HOSTS = {"other.test": ("127.0.0.1",), "private.test": ("10.0.0.1",), "up.test": ("127.0.0.1",)}
COVERED = integration("h", "https://up.test/api")


async def silent(connection: RawConnection) -> None:
    """Record only, and send nothing."""


@asynccontextmanager
async def open_tunnel(
    sidekey: RunningPlane, upstream: RawUpstream
) -> AsyncIterator[tuple[RawConnection, RawConnection]]:
    """Return a caller in a tunnel to the upstream, and the upstream's end."""
    async with sidekey.connect() as raw:
        await raw.send(connect_request(f"other.test:{upstream.port}", user=""))
        assert (await raw.response(to_head=True)).status == 200
        yield raw, upstream.connections[-1]


async def test_bytes_pass_untouched_both_ways_and_each_way_ends_by_itself() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
    ):
        async with open_tunnel(sidekey, upstream) as (caller, far):
            await caller.send(b"\x16\x00 what ever")
            assert await far.until_received(11) == b"\x16\x00 what ever"
            await far.send(b"\r\n\r\n\xff")
            await caller.until(lambda: caller.received.endswith(b"\r\n\r\n\r\n\r\n\xff"))
            assert sidekey.metrics.tunnels["passed"] == 1
            assert sidekey.metrics.upstream_open == 1
            caller.transport.write_eof()
            await eventually(lambda: far.ended)
            await far.send(b"last")
            await caller.until_contains(b"last")
            far.close()
            await caller.until_ended()
        await eventually(lambda: sidekey.metrics.tunnels["passed"] == 0)
        assert sidekey.metrics.tunnel_outcomes == {("-", "opened"): 1}


async def test_bytes_sent_with_the_connect_pass() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        sidekey.connect() as raw,
    ):
        await raw.send(connect_request(f"other.test:{upstream.port}", user="") + b"GET / HTTP/1.1\r\n")
        assert (await raw.response(to_head=True)).status == 200
        await eventually(lambda: upstream.received == [b"GET / HTTP/1.1\r\n"])


async def test_a_server_that_speaks_first_is_heard() -> None:
    async def greeting(connection: RawConnection) -> None:
        await connection.send(b"220 hello")

    async with (
        RawUpstream(greeting) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        open_tunnel(sidekey, upstream) as (caller, far),
    ):
        await caller.until_contains(b"220 hello")
        assert bytes(caller.received[caller.consumed :]) == b"220 hello"
        assert bytes(far.received) == b""


async def test_slow_receiver_slows_the_sender() -> None:
    """Sidekey buffers at most two write buffers, and everything arrives in the end."""
    size = 40 << 20
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        open_tunnel(sidekey, upstream) as (caller, far),
    ):
        far.transport.pause_reading()
        caller.transport.write(bytes(size))
        (passage,) = sidekey.plane.worker.connections
        end = passage.upstream_end  # type: ignore[attr-defined]
        await eventually(lambda: end.transport.get_write_buffer_size() > WRITE_BUFFER)
        for _ in range(200):
            await asyncio.sleep(0)
        assert end.transport.get_write_buffer_size() <= WRITE_BUFFER + (256 << 10)
        far.transport.resume_reading()
        async with asyncio.timeout(DEADLINE * 2):
            while len(far.received) < size:
                await asyncio.sleep(0.01)


async def test_reset_is_forwarded_as_a_reset() -> None:
    """A truncated stream must not look complete."""
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        open_tunnel(sidekey, upstream) as (caller, far),
    ):
        far.reset()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)


async def test_idle_tunnel_is_closed(tmp_path: Path) -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(
            COVERED,
            passing=True,
            pass_ports=[upstream.port],
            hosts=HOSTS,
            timeouts=Timeouts(tunnel_idle=50),
            log=tmp_path / "log",
        ) as sidekey,
        open_tunnel(sidekey, upstream) as (caller, far),
    ):
        sidekey.advance(40)
        await caller.send(b"x")
        await far.until_received(1)
        sidekey.advance(20)
        assert not caller.lost
        sidekey.advance(100)
        await caller.until_lost()
    await eventually((tmp_path / "log").read_text)
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    expected = {"door": "tunnel", "method": "CONNECT", "host": "other.test", "integration": "-", "status": 200}
    assert {**expected, "bytes_in": 1, "bytes_out": 0}.items() <= line.items()
    assert (line["port"], line["upstream"]) == (upstream.port, f"127.0.0.1:{upstream.port}")
    assert line["peer"].startswith("127.0.0.1:")
    assert 0 < line["connect"] <= line["duration"]
    assert sum(sidekey.metrics.connections.buckets) == 1


@pytest.mark.parametrize(
    ("target", "user", "status", "code"),
    [
        ("other.test:25", "", 403, "target_denied"),
        ("private.test:443", "", 403, "destination_denied"),
        ("other.test:REFUSED", "", 502, "upstream_unreachable"),
        ("nowhere.invalid:443", "", 502, "upstream_unreachable"),
        ("up.test:443", "", 407, "integration_required"),
        ("up.test:444", "h:x", 403, "target_denied"),
    ],
)
async def test_connect_without_a_target_connection_is_refused(target: str, user: str, status: int, code: str) -> None:
    """Sidekey sends 200 only after it is connected."""
    refused = free_port()
    async with running(COVERED, passing=True, pass_ports=[443, refused], hosts=HOSTS) as sidekey:
        response = await sidekey.send(connect_request(target.replace("REFUSED", str(refused)), user=user))
        assert response.status == status
        assert json.loads(response.body)["code"] == code
        if code in ("destination_denied", "upstream_unreachable"):
            assert sidekey.metrics.passed.outcomes == {code: 1}


async def test_unreachable_target_is_504_after_timeouts_connect() -> None:
    with Blackhole("127.0.0.1") as hole:
        async with running(
            COVERED, passing=True, pass_ports=[hole.port], hosts=HOSTS, timeouts=Timeouts(connect=0.1)
        ) as sidekey:
            response = await sidekey.send(connect_request(f"other.test:{hole.port}", user=""))
            assert (response.status, json.loads(response.body)["code"]) == (504, "upstream_timeout")
            assert sidekey.metrics.passed.outcomes == {"upstream_timeout": 1}


async def test_end_of_the_drain_resets_passthrough_tunnels() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        open_tunnel(sidekey, upstream) as (caller, far),
    ):
        sidekey.plane.drain()
        await sidekey.plane.finish(0.2)
        await caller.until_lost()
        await far.until_lost()
        assert [type(item.error) for item in (caller, far)] == [ConnectionResetError] * 2
        assert sidekey.metrics.tunnels["passed"] == 0
        assert sidekey.metrics.tunnel_outcomes == {("-", "opened"): 1}


# Without sockets: the calls at each end.


async def ends(sidekey: ScriptedPlane) -> tuple[RecordingTransport, RecordingTransport]:
    """Return both transports of a passthrough tunnel, the caller's first."""
    near = sidekey.caller()
    near.feed(connect_request("other.test:443", user=""))
    far = await sidekey.upstream()
    await settle()
    assert near.read().startswith(b"HTTP/1.1 200 ")
    return near, far


async def test_full_end_pauses_only_the_other_end() -> None:
    """And no end that has ended or is closing."""
    near, far = await ends(ScriptedPlane(passing=True))
    for full, sender in ((far, near), (near, far)):
        full.block_writes()
        sender.feed(b"x")
        assert (sender.reading, full.reading) == (False, True)
        full.allow_writes()
        assert (sender.reading, full.reading) == (True, True)
    far.protocol.eof_received()
    assert near.ended
    near.block_writes()
    far.protocol.pause_writing()
    far.protocol.resume_writing()
    near.protocol.pause_writing()
    assert far.reading, "its end has come: nothing more is read of it"
    far.close()
    near.protocol.pause_writing()
    near.protocol.resume_writing()


async def test_idle_passthrough_tunnel_is_not_evicted() -> None:
    """It may wait for a response."""
    sidekey = ScriptedPlane(passing=True)
    worker = sidekey.plane.worker
    near, far = await ends(sidekey)
    (passage,) = worker.connections
    worker.deadlines.look(worker.deadlines.now + worker.rules.timeouts.idle)
    assert passage.idle_since == NEVER
    assert not passage.close_if_idle()
    assert not (near.truncated or far.truncated)


async def test_passthrough_without_two_descriptors_is_refused() -> None:
    """One for the caller and one for the target. Both are released."""
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS, limits=Limits(in_flight=1)) as sidekey,
    ):
        worker = sidekey.plane.worker
        worker.limit_descriptors(9)
        request = connect_request(f"other.test:{upstream.port}", user="")
        async with open_tunnel(sidekey, upstream), open_tunnel(sidekey, upstream) as (second, _):
            refused = await sidekey.send(request)
            assert (refused.status, json.loads(refused.body)["code"]) == (503, "overloaded")
            second.reset()
            await eventually(lambda: len(worker._passthroughs) == 1)
            async with open_tunnel(sidekey, upstream):
                assert len(worker._passthroughs) == 2


async def test_passthrough_tunnels_leave_room_for_other_callers() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS, limits=Limits(in_flight=4)) as sidekey,
    ):
        sidekey.plane.worker.limit_descriptors(20)
        async with AsyncExitStack() as stack:
            statuses = []
            for _ in range(8):
                raw = await stack.enter_async_context(sidekey.connect())
                await raw.send(connect_request(f"other.test:{upstream.port}", user=""))
                statuses.append((await raw.response(to_head=True)).status)
            assert statuses == [200] * 4 + [503] * 4
            assert (await sidekey.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404


async def test_a_target_that_cannot_be_connected_gives_its_descriptor_back() -> None:
    refused = free_port()
    async with running(COVERED, passing=True, pass_ports=[refused], hosts=HOSTS) as sidekey:
        response = await sidekey.send(connect_request(f"other.test:{refused}", user=""))
        assert response.status == 502
        assert not sidekey.plane.worker._passthroughs


async def test_passthrough_connections_are_counted() -> None:
    """Pending, open and their outcomes."""
    sidekey = ScriptedPlane(passing=True)
    for number in (1, 2):
        near = sidekey.caller()
        near.feed(connect_request("other.test:443", user=""))
        await sidekey.upstream(number - 1)
        await settle()
        assert sidekey.metrics.passed.connects == {"ok": number}
        assert (sidekey.metrics.upstream_connecting, sidekey.metrics.upstream_open) == (0, number)


async def test_first_bytes_of_the_target_wait_for_200() -> None:
    sidekey = ScriptedPlane()
    worker = sidekey.plane.worker
    opened: TunnelAdmitted[Any] = TunnelAdmitted(
        Authority("other.test", 443), None, passes=True, name=None, token=None, caller=None
    )
    tunnels = Tunnels(worker)
    assert worker.enter_tunnel("", worker.rules) is None
    passage = PassthroughTunnel(worker, TunnelRecord(worker, tunnels, opened, ConnectInfo("w-1", "", 0.0)), 60)
    far, near = RecordingTransport(passage.upstream_end), RecordingTransport(asyncio.Protocol())
    far.feed(b"220 hello")
    assert not far.reading
    passage.begin(near, b"EHLO", full=False)
    await settle()
    assert (near.read(), far.read()) == (b"220 hello", b"EHLO")
