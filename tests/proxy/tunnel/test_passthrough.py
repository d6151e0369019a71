"""Tunnels whose bytes pass untouched: `forward.unmatched: pass`."""

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
from support.plane import Running, eventually, integration, running
from support.ports import free_port
from support.raw_connection import DEADLINE, RawConnection
from support.scripted import RecordingTransport, Scripted, settle
from support.tunnels import connect_request
from support.upstream import RawUpstream

HOSTS = {"other.test": ("127.0.0.1",), "private.test": ("10.0.0.1",), "up.test": ("127.0.0.1",)}
COVERED = integration("h", "https://up.test/api")


async def silent(connection: RawConnection) -> None:
    """An upstream that records, and says nothing by itself."""


@asynccontextmanager
async def passing(sidekey: Running, upstream: RawUpstream) -> AsyncIterator[tuple[RawConnection, RawConnection]]:
    """A caller in a tunnel to the upstream, and the upstream's end of it."""
    async with sidekey.connect() as raw:
        await raw.send(connect_request(f"other.test:{upstream.port}", user=""))
        assert (await raw.response(to_head=True)).status == 200
        yield raw, upstream.connections[-1]


async def test_bytes_pass_untouched_both_ways_and_each_way_ends_by_itself() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
    ):
        async with passing(sidekey, upstream) as (caller, far):
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


async def test_what_came_behind_the_connect_passes_as_well() -> None:
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
        passing(sidekey, upstream) as (caller, far),
    ):
        await caller.until_contains(b"220 hello")
        assert bytes(caller.received[caller.taken :]) == b"220 hello"
        assert bytes(far.received) == b""


async def test_a_slow_receiver_holds_the_sender() -> None:
    """No more than two transports' buffers wait in Sidekey; afterwards everything arrives."""
    size = 40 << 20
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        passing(sidekey, upstream) as (caller, far),
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


async def test_a_reset_is_passed_on_as_one() -> None:
    """What was cut must not look complete."""
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        passing(sidekey, upstream) as (caller, far),
    ):
        far.reset()
        await caller.until_lost()
        assert isinstance(caller.error, ConnectionResetError)


async def test_a_tunnel_in_which_nothing_moves_ends(tmp_path: Path) -> None:
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
        passing(sidekey, upstream) as (caller, far),
    ):
        sidekey.wait(40)
        await caller.send(b"x")
        await far.until_received(1)
        sidekey.wait(20)
        assert not caller.lost
        sidekey.wait(100)
        await caller.until_lost()
    await eventually((tmp_path / "log").read_text)
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    wanted = {"door": "tunnel", "method": "CONNECT", "host": "other.test", "integration": "-", "status": 200}
    assert {**wanted, "bytes_in": 1, "bytes_out": 0}.items() <= line.items()
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
async def test_a_connect_that_does_not_pass(target: str, user: str, status: int, code: str) -> None:
    """200 comes only once the target is connected."""
    refused = free_port()
    async with running(COVERED, passing=True, pass_ports=[443, refused], hosts=HOSTS) as sidekey:
        response = await sidekey.ask(connect_request(target.replace("REFUSED", str(refused)), user=user))
        assert response.status == status
        assert json.loads(response.body)["code"] == code
        if code in ("destination_denied", "upstream_unreachable"):
            assert sidekey.metrics.passed.outcomes == {code: 1}


async def test_a_target_that_does_not_answer_is_a_timeout() -> None:
    """504 within timeouts.connect."""
    with Blackhole("127.0.0.1") as hole:
        async with running(
            COVERED, passing=True, pass_ports=[hole.port], hosts=HOSTS, timeouts=Timeouts(connect=0.1)
        ) as sidekey:
            response = await sidekey.ask(connect_request(f"other.test:{hole.port}", user=""))
            assert (response.status, json.loads(response.body)["code"]) == (504, "upstream_timeout")
            assert sidekey.metrics.passed.outcomes == {"upstream_timeout": 1}


async def test_the_end_of_the_drain_cuts_what_passes() -> None:
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS) as sidekey,
        passing(sidekey, upstream) as (caller, far),
    ):
        sidekey.plane.drain()
        await sidekey.plane.finish(0.2)
        await caller.until_lost()
        await far.until_lost()
        assert [type(each.error) for each in (caller, far)] == [ConnectionResetError] * 2
        assert sidekey.metrics.tunnels["passed"] == 0
        assert sidekey.metrics.tunnel_outcomes == {("-", "opened"): 1}


# Without sockets: what each end is told.


async def ends(sidekey: Scripted) -> tuple[RecordingTransport, RecordingTransport]:
    """The two transports of a passage, the caller's first."""
    near = sidekey.caller()
    near.feed(connect_request("other.test:443", user=""))
    far = await sidekey.upstream()
    await settle()
    assert near.take().startswith(b"HTTP/1.1 200 ")
    return near, far


async def test_the_one_that_is_full_holds_the_other_alone() -> None:
    """And nobody who has ended, or is closing."""
    near, far = await ends(Scripted(passing=True))
    for full, sender in ((far, near), (near, far)):
        full.choke()
        sender.feed(b"x")
        assert (sender.reading, full.reading) == (False, True)
        full.relieve()
        assert (sender.reading, full.reading) == (True, True)
    far.protocol.eof_received()
    assert near.ended
    near.choke()
    far.protocol.pause_writing()
    far.protocol.resume_writing()
    near.protocol.pause_writing()
    assert far.reading, "its end has come: nothing more is read of it"
    far.close()
    near.protocol.pause_writing()
    near.protocol.resume_writing()


async def test_passage_makes_no_room_however_long_nothing_moves() -> None:
    """A response may be awaited."""
    sidekey = Scripted(passing=True)
    worker = sidekey.plane.worker
    near, far = await ends(sidekey)
    (passage,) = worker.connections
    worker.deadlines.look(worker.deadlines.now + worker.rules.timeouts.idle)
    assert passage.idle_since == NEVER
    assert not passage.close_if_idle()
    assert not (near.cut or far.cut)


async def test_passage_that_finds_no_descriptor_is_refused() -> None:
    """It takes two: one of its caller, one of its target. Both are given back."""
    async with (
        RawUpstream(silent) as upstream,
        running(COVERED, passing=True, pass_ports=[upstream.port], hosts=HOSTS, limits=Limits(in_flight=1)) as sidekey,
    ):
        worker = sidekey.plane.worker
        worker.limit_descriptors(9)
        request = connect_request(f"other.test:{upstream.port}", user="")
        async with passing(sidekey, upstream), passing(sidekey, upstream) as (second, _):
            refused = await sidekey.ask(request)
            assert (refused.status, json.loads(refused.body)["code"]) == (503, "overloaded")
            second.reset()
            await eventually(lambda: len(worker._passthroughs) == 1)
            async with passing(sidekey, upstream):
                assert len(worker._passthroughs) == 2


async def test_passages_leave_other_callers_room() -> None:
    """However many are asked for."""
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
            assert (await sidekey.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")).status == 404


async def test_a_target_that_cannot_be_connected_gives_its_descriptor_back() -> None:
    refused = free_port()
    async with running(COVERED, passing=True, pass_ports=[refused], hosts=HOSTS) as sidekey:
        response = await sidekey.ask(connect_request(f"other.test:{refused}", user=""))
        assert response.status == 502
        assert not sidekey.plane.worker._passthroughs


async def test_the_connections_of_passages_are_counted() -> None:
    """Those under way, those that are open, and what became of each."""
    sidekey = Scripted(passing=True)
    for number in (1, 2):
        near = sidekey.caller()
        near.feed(connect_request("other.test:443", user=""))
        await sidekey.upstream(number - 1)
        await settle()
        assert sidekey.metrics.passed.connects == {"ok": number}
        assert (sidekey.metrics.upstream_connecting, sidekey.metrics.upstream_open) == (0, number)


async def test_what_the_target_says_at_once_waits_for_the_callers_end() -> None:
    """The connection to the target is made before the 200 is written."""
    sidekey = Scripted()
    worker = sidekey.plane.worker
    opened: TunnelAdmitted[Any] = TunnelAdmitted(
        Authority("other.test", 443), None, passes=True, name=None, token=None, caller=None
    )
    tunnels = Tunnels(worker)
    assert tunnels.enter("", worker.rules) is None
    passage = PassthroughTunnel(worker, TunnelRecord(worker, tunnels, opened, ConnectInfo("w-1", "", 0.0)), 60)
    far, near = RecordingTransport(passage.upstream_end), RecordingTransport(asyncio.Protocol())
    far.feed(b"220 hello")
    assert not far.reading
    passage.begin(near, b"EHLO", full=False)
    await settle()
    assert (near.take(), far.take()) == (b"220 hello", b"EHLO")
