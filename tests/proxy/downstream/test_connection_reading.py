"""Connections of callers: when Sidekey reads, when it parses held bytes, and how a connection ends."""

from __future__ import annotations

import asyncio
import gc
import socket
from dataclasses import replace

import pytest

from sidekey.proxy.connection import PARSER_BYPASS
from sidekey.proxy.deadlines import NEVER, TICK
from sidekey.proxy.downstream.connection import (
    LINGER,
    MAX_LINGER,
    PAUSED_BY_BODY,
    PAUSED_BY_CONNECT,
    PAUSED_BY_QUEUE,
    SHORT_READ,
    CallerConnection,
)
from sidekey.snapshot.request_rules import Limits, Timeouts
from support import wire
from support.plane import base_url, get, integration, problem, request
from support.scripted import GatedGrantSource, RecordingTransport, ScriptedPlane, send_request, settle
from support.upstream import OK

H = integration("h", base_url(1))
ONE = Limits(pipelined=1)
BLANKS = b"line\r\n\r\n" * 1000
"""A body that can be cut wherever a head could end."""

EARLY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"


def connection_of(caller: RecordingTransport) -> CallerConnection:
    """Return the protocol at Sidekey's end."""
    assert isinstance(caller.protocol, CallerConnection)
    return caller.protocol


def chunk(data: bytes) -> bytes:
    """Build one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def warm(sidekey: ScriptedPlane) -> tuple[RecordingTransport, RecordingTransport]:
    """Return a caller and an upstream after one complete exchange."""
    caller, upstream = await send_request(sidekey, get("/warm"))
    upstream.feed(OK)
    caller.read()
    upstream.read()
    return caller, upstream


def targets(data: bytes) -> list[bytes]:
    """Return the targets of the complete requests in `data`."""
    return [message.target for message in wire.requests(data)]


# What is held back.


async def test_caller_is_not_read_while_its_bytes_are_held() -> None:
    """Otherwise the held bytes would grow without limit, even with a short queue."""
    raw = b"".join(get(f"/{number}", "X: " + "x" * SHORT_READ) for number in range(3))
    sidekey = ScriptedPlane(H, limits=ONE)
    caller, upstream = await send_request(sidekey, raw)
    for number in range(3):
        assert not connection_of(caller)._queue
        assert caller.reading is (number == 2)
        assert targets(upstream.read()) == [b"/api/%d" % number]
        upstream.feed(OK)


async def test_bytes_received_while_others_are_held_wait_behind_them() -> None:
    """A loop may deliver one more read after `pause_reading`."""
    raw = b"".join(get(f"/{number}", "X: " + "x" * SHORT_READ) for number in range(3))
    sidekey = ScriptedPlane(H, limits=ONE)
    caller, upstream = await send_request(sidekey, raw)
    connection_of(caller).data_received(get("/last"))
    seen = []
    while data := upstream.read():
        seen += targets(data)
        upstream.feed(OK)
    assert seen == [b"/api/0", b"/api/1", b"/api/2", b"/api/last"]
    assert caller.reading


async def test_held_body_waits_until_the_upstream_reads() -> None:
    sidekey = ScriptedPlane(H, limits=ONE)
    caller, upstream = await warm(sidekey)
    upstream.block_writes()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + chunk(BLANKS) + b"0\r\n\r\n" + get("/next"))
    assert len(upstream.written) < 1000
    assert not caller.reading
    upstream.allow_writes()
    (message,) = wire.requests(upstream.read())
    assert message.body == BLANKS
    upstream.feed(OK)
    assert targets(upstream.read()) == [b"/api/next"]


async def test_held_body_waits_until_the_caller_reads_an_early_response() -> None:
    sidekey = ScriptedPlane(H, limits=ONE)
    caller, upstream = await warm(sidekey)
    upstream.block_writes()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + chunk(BLANKS) + b"0\r\n\r\n")
    caller.block_writes()
    upstream.feed(EARLY)
    upstream.read()
    upstream.allow_writes()
    assert upstream.read() == b""
    caller.allow_writes()
    assert upstream.read().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [PARSER_BYPASS, PARSER_BYPASS + 1, 3 * PARSER_BYPASS])
async def test_the_request_behind_a_long_body_is_not_lost(size: int) -> None:
    """The body and the request arrive in one read, through the parser or past it."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, request("POST", "/a", f"Content-Length: {size}"))
    caller.feed(body[:100], body[100:] + get("/next"))
    (message,) = wire.requests(upstream.read())
    assert message.body == body
    upstream.feed(OK)
    assert targets(upstream.read()) == [b"/api/next"]


# Deadlines of a body.


async def test_idle_time_out_pauses_while_a_body_is_not_read() -> None:
    """Sidekey does not read it while it fetches the grant."""
    source = GatedGrantSource()
    sidekey = ScriptedPlane(H, sources={"h": source}, timeouts=Timeouts(idle=5))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", f"Content-Length: {3 * PARSER_BYPASS}") + b"first")
    deadlines.look(20.0)
    assert (caller.read(), caller.reading) == (b"", False)
    source.go.set()
    await sidekey.upstream()
    assert caller.reading
    deadlines.look(24.0)
    assert caller.read() == b""
    deadlines.look(25.0)
    assert caller.read().startswith(b"HTTP/1.1 408 ")


async def test_idle_time_out_ends_with_the_body() -> None:
    """The upstream has room again, so only the response is due."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=5, response=60))
    caller, upstream = await warm(sidekey)
    upstream.block_writes()
    caller.feed(request("POST", body=b"whole"))
    upstream.allow_writes()
    sidekey.plane.worker.deadlines.look(59.0)
    assert caller.read() == b""
    upstream.feed(OK)
    assert caller.read().endswith(b"ok")


@pytest.mark.parametrize("whole", [True, False])
async def test_idle_time_out_resumes_when_the_caller_reads_the_response(whole: bool) -> None:
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=10))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await send_request(
        sidekey, request("POST", "/a", "Content-Length: 5") + (b"whole" if whole else b"part")
    )
    caller.block_writes()
    upstream.feed(EARLY)
    caller.allow_writes()
    deadlines.look(8.0)
    upstream.feed(b"x")
    deadlines.look(12.0)
    assert upstream.aborted is not whole
    assert caller.truncated is not whole


# The end.


@pytest.mark.parametrize("held", [False, True], ids=["in the queue", "held back"])
async def test_a_request_behind_the_last_one_is_read_and_dropped(held: bool) -> None:
    """After a close, the kernel would answer it with a reset, which may overtake the response."""
    behind = get("/dropped", "X: " + "x" * SHORT_READ if held else "X: 1")
    sidekey = ScriptedPlane(H, limits=ONE)
    caller, upstream = await send_request(sidekey, get() + behind)
    sidekey.plane.drain()
    upstream.feed(OK)
    await settle()
    assert (caller.ended, caller.is_closing()) == (True, False)
    sidekey.plane.worker.deadlines.look(LINGER)
    assert caller.is_closing()
    assert targets(upstream.read()) == [b"/api/a"]


async def test_connection_without_further_bytes_closes_at_once() -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get("/a", "Connection: close"))
    upstream.feed(OK)
    assert caller.is_closing()


REFUSED = request("POST", "/../x", f"Content-Length: {30 * PARSER_BYPASS}") + b"part"


async def test_refused_upload_is_dropped_while_it_arrives() -> None:
    """For LINGER seconds after its last byte, and at most LINGER_AT_MOST."""
    sidekey = ScriptedPlane(H)
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(REFUSED)
    assert (caller.ended, caller.reading) == (True, True)
    now = 0.0
    while now + LINGER - 0.5 < MAX_LINGER:
        now += LINGER - 0.5
        deadlines.look(now)
        assert not caller.is_closing()
        caller.feed(b"more")
    deadlines.look(MAX_LINGER)
    assert caller.is_closing()


async def test_refused_upload_that_stops_is_closed() -> None:
    """The idle time-out of bodies no longer applies."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=600))
    caller = sidekey.caller()
    caller.feed(REFUSED)
    sidekey.plane.worker.deadlines.look(LINGER - 0.1)
    assert not caller.is_closing()
    sidekey.plane.worker.deadlines.look(LINGER)
    assert caller.is_closing()


async def test_dropped_bytes_do_not_extend_the_write_time_out() -> None:
    """timeouts.write counts from a full buffer, and LINGER from an empty one."""
    sidekey = ScriptedPlane(H, timeouts=Timeouts(write=5))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.block_writes()
    caller.feed(REFUSED)
    deadlines.look(4.0)
    caller.feed(b"more")
    deadlines.look(5.0)
    assert caller.aborted
    patient = sidekey.caller()
    patient.block_writes()
    patient.feed(REFUSED)
    deadlines.look(9.0)
    patient.allow_writes()
    deadlines.look(9.0 + LINGER - 0.1)
    assert not patient.is_closing()
    deadlines.look(9.0 + LINGER)
    assert patient.is_closing()


async def test_drain_lets_a_refused_upload_linger() -> None:
    """Its connection has no exchange, but a response to deliver."""
    sidekey = ScriptedPlane(H)
    refused, idle = sidekey.caller(), sidekey.caller()
    refused.feed(REFUSED)
    for caller in (refused, idle):
        connection_of(caller).close_if_idle()
    assert (refused.is_closing(), idle.is_closing()) == (False, True)


@pytest.mark.parametrize("state", ["idle", "under way", "unsent"])
async def test_end_of_the_process_resets_incomplete_responses(state: str) -> None:
    """After FIN, a response could look complete."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    if state == "unsent":
        caller.block_writes()
    if state != "under way":
        upstream.feed(OK)
    connection = connection_of(caller)
    assert (connection.unsent, connection.exchange is None) == (state == "unsent", state != "under way")
    connection.end()
    assert caller.aborted is (state != "idle")
    assert caller.is_closing()


async def test_malformed_request_waits_for_the_previous_one() -> None:
    """Its error response is the last one. Sidekey ignores further bytes."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    caller.feed(b"GARBAGE\r\n\r\n", get("/dropped"))
    sidekey.plane.worker.deadlines.look(1.0)
    assert caller.read() == b""
    upstream.feed(OK)
    data = caller.read()
    first = wire.first_response(data)
    assert first is not None
    second = wire.first_response(data[first.length :])
    assert second is not None
    assert (first.status, problem(second)["code"]) == (200, "request_invalid")


@pytest.mark.parametrize("first", [True, False], ids=["first", "kept"])
async def test_head_time_out_ends_with_the_head(first: bool) -> None:
    sidekey = ScriptedPlane(H, timeouts=Timeouts(request_head=5, keep_alive=5, response=60))
    if first:
        caller, upstream = await send_request(sidekey, get())
    else:
        caller, upstream = await warm(sidekey)
        caller.feed(get())
    sidekey.plane.worker.deadlines.look(59.0)
    assert (caller.read(), caller.ended) == (b"", False)
    upstream.feed(OK)
    assert caller.read().endswith(b"ok")


async def test_caller_is_read_while_its_connection_closes() -> None:
    """A reset in reply to further bytes would overtake the response."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await warm(sidekey)
    upstream.block_writes()
    caller.feed(request("POST", "/a", "Content-Length: 1000") + b"first")
    caller.feed(b"second")
    assert not caller.reading
    upstream.feed(OK)
    assert caller.read().endswith(b"ok")
    assert (caller.ended, caller.reading) == (True, True)


async def test_idle_time_out_restarts_when_the_caller_reads_an_early_response() -> None:
    sidekey = ScriptedPlane(H, timeouts=Timeouts(idle=5, write=5))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await send_request(sidekey, request("POST", "/a", "Content-Length: 1000") + b"first")
    caller.block_writes()
    upstream.feed(EARLY)
    deadlines.look(3.0)
    caller.allow_writes()
    deadlines.look(7.9)
    assert not caller.truncated
    deadlines.look(8.0)
    assert caller.truncated


async def test_lost_connection_is_freed_without_the_garbage_collector() -> None:
    """The parser and its callbacks are a cycle."""

    def count() -> int:
        return sum(isinstance(item, CallerConnection) for item in gc.get_objects())

    sidekey = ScriptedPlane(H)
    gc.collect()
    gc.disable()
    try:
        before = count()
        caller, _ = await warm(sidekey)
        assert count() == before + 1
        caller.fail(ConnectionResetError())
        await settle()
        # A transport lets go of its protocol.
        caller.protocol = asyncio.Protocol()
        assert count() == before
    finally:
        gc.enable()


async def test_caller_without_a_descriptor_gets_503_before_its_request_is_read() -> None:
    """All other connections have a request in flight."""
    sidekey = ScriptedPlane(H, limits=Limits(in_flight=2))
    sidekey.plane.worker.limit_descriptors(3)
    await send_request(sidekey, get("/1"))
    refused = sidekey.caller()
    response = wire.first_response(refused.read())
    assert response is not None
    assert (response.status, problem(response)["code"]) == (503, "overloaded")
    assert problem(response)["detail"] == "no file descriptor (NOFILE) is left for another connection"
    assert (response.values(b"retry-after"), response.values(b"connection")) == ([b"1"], [b"close"])
    assert refused.is_closing()
    await settle()
    assert len(sidekey.plane.worker.connections) == 1


async def test_connection_is_idle_only_between_requests() -> None:
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    connection, now = connection_of(caller), sidekey.plane.worker.deadlines.now
    assert connection.idle_since == now
    caller.feed(b"POST /i/h/a HTTP/1.1\r\n")
    assert connection.idle_since == NEVER
    caller.feed(b"Host: h.test\r\nContent-Length: 3\r\n\r\na")
    upstream = await sidekey.upstream()
    assert connection.deadline < NEVER
    assert connection.idle_since == NEVER
    caller.feed(b"bc")
    assert connection.idle_since == NEVER
    upstream.feed(OK)
    assert connection.idle_since == now
    assert connection.close_if_idle()
    assert connection.idle_since == NEVER


def test_each_reason_to_pause_reading_is_a_separate_bit() -> None:
    reasons = (PAUSED_BY_QUEUE, PAUSED_BY_BODY, PAUSED_BY_CONNECT)
    assert all(reason.bit_count() == 1 for reason in reasons)
    assert len(set(reasons)) == len(reasons)


async def test_expired_connection_with_unread_bytes_gets_one_more_tick() -> None:
    worker = ScriptedPlane(H).plane.worker
    connection = CallerConnection(worker, lambda *_: pytest.fail("no request is whole"))
    transport = RecordingTransport(connection)
    ours, other = socket.socketpair()
    transport.sock = ours
    with ours, other:
        other.sendall(b"G")
        connection.expired()
        assert (transport.ended, connection.deadline) == (False, worker.deadlines.now + TICK)
        ours.recv(1)
        connection.expired()
        assert transport.ended


async def test_connection_with_unread_bytes_is_not_evicted() -> None:
    """A close would reset it."""
    worker = ScriptedPlane(H).plane.worker
    connection = CallerConnection(worker, lambda *_: pytest.fail("no request is whole"))
    transport = RecordingTransport(connection)
    ours, other = socket.socketpair()
    transport.sock = ours
    with ours, other:
        other.sendall(b"G")
        assert not connection.close_if_idle()
        ours.recv(1)
        assert connection.close_if_idle()
        with pytest.raises(BrokenPipeError):
            other.sendall(b"G")


@pytest.mark.parametrize("caller_ends", [True, False])
async def test_drain_lets_the_caller_close_an_idle_connection(*, caller_ends: bool) -> None:
    """Sidekey sends FIN at the second tick, and closes after the caller's FIN or after LINGER."""
    sidekey = ScriptedPlane(H)
    caller = sidekey.caller()
    connection = connection_of(caller)
    connection.wind_down(patient=False)
    assert not caller.ended
    deadlines = sidekey.plane.worker.deadlines
    deadlines.look(1.5 * TICK)
    connection.wind_down(patient=True)
    assert not caller.ended
    for _ in range(5):
        connection.wind_down(patient=False)
        assert (caller.ended, caller.is_closing()) == (True, False)
    if caller_ends:
        caller.finish()
    else:
        deadlines.look(deadlines.now + LINGER)
    assert caller.is_closing()
    await settle()
    assert not sidekey.plane.worker.connections


async def test_caller_closes_after_a_response_with_connection_close() -> None:
    """After a close by Sidekey, the kernel would reset a request in transit."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    sidekey.plane.drain()
    upstream.feed(OK)
    assert b"\r\nConnection: close\r\n" in caller.read()
    caller.feed(get("/dropped"))
    assert (caller.ended, caller.is_closing()) == (True, False)
    caller.finish()
    assert caller.is_closing()
    assert targets(upstream.read()) == [b"/api/a"]


async def test_caller_closes_when_keep_alive_expires() -> None:
    """A request in transit is not reset."""
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(OK)
    deadlines = sidekey.plane.worker.deadlines
    deadlines.look(sidekey.plane.worker.rules.timeouts.keep_alive)
    assert (caller.ended, caller.is_closing()) == (True, False)
    deadlines.look(deadlines.now + LINGER)
    assert caller.is_closing()


@pytest.mark.parametrize("keep_alive", [1.0, 7500.0])
async def test_reload_keeps_the_idle_time_of_a_connection(keep_alive: float) -> None:
    sidekey = ScriptedPlane(H)
    caller, upstream = await send_request(sidekey, get())
    upstream.feed(OK)
    connection, deadlines = connection_of(caller), sidekey.plane.worker.deadlines
    timeouts = Timeouts(request_head=keep_alive, keep_alive=keep_alive)
    sidekey.plane.prepare(replace(sidekey.snapshot, timeouts=timeouts))()
    assert connection.idle_since == deadlines.now
    connection.wind_down(patient=False)
    assert not caller.ended
    deadlines.look(deadlines.now + 2 * TICK)
    connection.wind_down(patient=False)
    assert caller.ended
