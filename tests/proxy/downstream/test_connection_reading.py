"""When a caller is read, when what was held back of its reads has its turn, and what ends a connection and how."""

from __future__ import annotations

import asyncio
import gc
import socket
from dataclasses import replace

import pytest

from sidekey.proxy.connection import BYPASS
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
from support.scripted import Awaited, RecordingTransport, Scripted, settle
from support.upstream import OK

H = integration("h", base_url(1))
ONE = Limits(pipelined=1)
BLANKS = b"line\r\n\r\n" * 1000
"""A body that can be cut wherever a head could end."""

EARLY = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst"


def connection_of(caller: RecordingTransport) -> CallerConnection:
    """The protocol at our end."""
    assert isinstance(caller.protocol, CallerConnection)
    return caller.protocol


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def cold(sidekey: Scripted, raw: bytes) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller's bytes, and the upstream's connection that they led to."""
    caller = sidekey.caller()
    caller.feed(raw)
    return caller, await sidekey.upstream()


async def warm(sidekey: Scripted) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller and an upstream that have had one exchange; nothing is left of it to be read."""
    caller, upstream = await cold(sidekey, get("/warm"))
    upstream.feed(OK)
    caller.take()
    upstream.take()
    return caller, upstream


def targets(data: bytes) -> list[bytes]:
    """Of the complete requests in `data`."""
    return [message.target for message in wire.requests(data)]


# What is held back.


async def test_a_caller_is_not_read_while_something_of_it_is_held_back() -> None:
    """However few requests wait in the queue; else what is held would grow without a bound."""
    raw = b"".join(get(f"/{number}", "X: " + "x" * SHORT_READ) for number in range(3))
    sidekey = Scripted(H, limits=ONE)
    caller, upstream = await cold(sidekey, raw)
    for number in range(3):
        assert not connection_of(caller)._queue
        assert caller.reading is (number == 2)
        assert targets(upstream.take()) == [b"/api/%d" % number]
        upstream.feed(OK)


async def test_what_comes_while_something_is_held_back_waits_behind_it() -> None:
    """A loop may hand over one more read after it was told to pause."""
    raw = b"".join(get(f"/{number}", "X: " + "x" * SHORT_READ) for number in range(3))
    sidekey = Scripted(H, limits=ONE)
    caller, upstream = await cold(sidekey, raw)
    connection_of(caller).data_received(get("/last"))
    seen = []
    while data := upstream.take():
        seen += targets(data)
        upstream.feed(OK)
    assert seen == [b"/api/0", b"/api/1", b"/api/2", b"/api/last"]
    assert caller.reading


async def test_a_body_that_is_held_back_waits_for_room_at_the_upstream() -> None:
    """And goes on when there is some."""
    sidekey = Scripted(H, limits=ONE)
    caller, upstream = await warm(sidekey)
    upstream.choke()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + chunk(BLANKS) + b"0\r\n\r\n" + get("/next"))
    assert len(upstream.written) < 1000
    assert not caller.reading
    upstream.relieve()
    (message,) = wire.requests(upstream.take())
    assert message.body == BLANKS
    upstream.feed(OK)
    assert targets(upstream.take()) == [b"/api/next"]


async def test_a_body_that_is_held_back_waits_for_a_caller_that_is_full_too() -> None:
    """Of an early response; it goes on once the caller has taken that."""
    sidekey = Scripted(H, limits=ONE)
    caller, upstream = await warm(sidekey)
    upstream.choke()
    caller.feed(request("POST", "/a", "Transfer-Encoding: chunked") + chunk(BLANKS) + b"0\r\n\r\n")
    caller.choke()
    upstream.feed(EARLY)
    upstream.take()
    upstream.relieve()
    assert upstream.take() == b""
    caller.relieve()
    assert upstream.take().endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("size", [BYPASS, BYPASS + 1, 3 * BYPASS])
async def test_the_request_behind_a_long_body_is_not_lost(size: int) -> None:
    """They meet in one read, whether the parser saw the body or not."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, request("POST", "/a", f"Content-Length: {size}"))
    caller.feed(body[:100], body[100:] + get("/next"))
    (message,) = wire.requests(upstream.take())
    assert message.body == body
    upstream.feed(OK)
    assert targets(upstream.take()) == [b"/api/next"]


# Deadlines of a body.


async def test_no_time_runs_for_a_body_that_is_not_read() -> None:
    """While its grant is fetched; it runs from when it is read again."""
    source = Awaited()
    sidekey = Scripted(H, sources={"h": source}, timeouts=Timeouts(idle=5))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.feed(request("POST", "/a", f"Content-Length: {3 * BYPASS}") + b"first")
    deadlines.look(20.0)
    assert (caller.take(), caller.reading) == (b"", False)
    source.go.set()
    await sidekey.upstream()
    assert caller.reading
    deadlines.look(24.0)
    assert caller.take() == b""
    deadlines.look(25.0)
    assert caller.take().startswith(b"HTTP/1.1 408 ")


async def test_no_time_runs_for_a_body_that_is_whole() -> None:
    """The upstream was too full for its end, and is not any more: what is due now is the response."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=5, response=60))
    caller, upstream = await warm(sidekey)
    upstream.choke()
    caller.feed(request("POST", body=b"whole"))
    upstream.relieve()
    sidekey.plane.worker.deadlines.look(59.0)
    assert caller.take() == b""
    upstream.feed(OK)
    assert caller.take().endswith(b"ok")


@pytest.mark.parametrize("whole", [True, False])
async def test_time_for_a_body_goes_on_when_the_caller_has_taken_some_of_the_response(whole: bool) -> None:
    """Where some of it is still to come."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=10))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await cold(
        sidekey, request("POST", "/a", "Content-Length: 5") + (b"whole" if whole else b"part")
    )
    caller.choke()
    upstream.feed(EARLY)
    caller.relieve()
    deadlines.look(8.0)
    upstream.feed(b"x")
    deadlines.look(12.0)
    assert upstream.aborted is not whole
    assert caller.cut is not whole


# The end.


@pytest.mark.parametrize("held", [False, True], ids=["in the queue", "held back"])
async def test_a_request_behind_the_last_one_is_read_and_dropped(held: bool) -> None:
    """A close at once would have the kernel answer it by a reset, which may overtake the response."""
    behind = get("/dropped", "X: " + "x" * SHORT_READ if held else "X: 1")
    sidekey = Scripted(H, limits=ONE)
    caller, upstream = await cold(sidekey, get() + behind)
    sidekey.plane.drain()
    upstream.feed(OK)
    await settle()
    assert (caller.ended, caller.is_closing()) == (True, False)
    sidekey.plane.worker.deadlines.look(LINGER)
    assert caller.is_closing()
    assert targets(upstream.take()) == [b"/api/a"]


async def test_a_connection_without_anything_behind_closes_at_once() -> None:
    """After its last response."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get("/a", "Connection: close"))
    upstream.feed(OK)
    assert caller.is_closing()


REFUSED = request("POST", "/../x", f"Content-Length: {30 * BYPASS}") + b"part"


async def test_a_refused_upload_is_dropped_as_long_as_it_comes() -> None:
    """For LINGER seconds from its last byte, and LINGER_AT_MOST in all."""
    sidekey = Scripted(H)
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


async def test_a_refused_upload_that_stops_is_dropped_no_longer() -> None:
    """Nor does the idle time-out of bodies count any more."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=600))
    caller = sidekey.caller()
    caller.feed(REFUSED)
    sidekey.plane.worker.deadlines.look(LINGER - 0.1)
    assert not caller.is_closing()
    sidekey.plane.worker.deadlines.look(LINGER)
    assert caller.is_closing()


async def test_what_is_dropped_gives_a_caller_that_does_not_read_no_more_time() -> None:
    """timeouts.write counts from when it was full; LINGER once it has taken what there was."""
    sidekey = Scripted(H, timeouts=Timeouts(write=5))
    deadlines = sidekey.plane.worker.deadlines
    caller = sidekey.caller()
    caller.choke()
    caller.feed(REFUSED)
    deadlines.look(4.0)
    caller.feed(b"more")
    deadlines.look(5.0)
    assert caller.aborted
    patient = sidekey.caller()
    patient.choke()
    patient.feed(REFUSED)
    deadlines.look(9.0)
    patient.relieve()
    deadlines.look(9.0 + LINGER - 0.1)
    assert not patient.is_closing()
    deadlines.look(9.0 + LINGER)
    assert patient.is_closing()


async def test_a_drain_leaves_a_refused_upload_its_time() -> None:
    """Its connection has no exchange, and yet something to say; an idle one has not."""
    sidekey = Scripted(H)
    refused, idle = sidekey.caller(), sidekey.caller()
    refused.feed(REFUSED)
    for caller in (refused, idle):
        connection_of(caller).close_if_idle()
    assert (refused.is_closing(), idle.is_closing()) == (False, True)


@pytest.mark.parametrize("state", ["idle", "under way", "unsent"])
async def test_the_end_of_the_process_cuts_what_is_not_whole(state: str) -> None:
    """By a reset: an orderly end could make it look complete."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get())
    if state == "unsent":
        caller.choke()
    if state != "under way":
        upstream.feed(OK)
    connection = connection_of(caller)
    assert (connection.unsent, connection.exchange is None) == (state == "unsent", state != "under way")
    connection.end()
    assert caller.aborted is (state != "idle")
    assert caller.is_closing()


async def test_a_malformed_request_waits_for_the_one_before() -> None:
    """Its refusal is the last response; what still comes behind it has no meaning."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get())
    caller.feed(b"GARBAGE\r\n\r\n", get("/dropped"))
    sidekey.plane.worker.deadlines.look(1.0)
    assert caller.take() == b""
    upstream.feed(OK)
    data = caller.take()
    first = wire.first_response(data)
    assert first is not None
    second = wire.first_response(data[first.length :])
    assert second is not None
    assert (first.status, problem(second)["code"]) == (200, "request_invalid")


@pytest.mark.parametrize("first", [True, False], ids=["first", "kept"])
async def test_the_time_for_a_head_ends_with_the_head(first: bool) -> None:
    """While an exchange whose request is whole is under way, nothing is due of its caller."""
    sidekey = Scripted(H, timeouts=Timeouts(request_head=5, keep_alive=5, response=60))
    if first:
        caller, upstream = await cold(sidekey, get())
    else:
        caller, upstream = await warm(sidekey)
        caller.feed(get())
    sidekey.plane.worker.deadlines.look(59.0)
    assert (caller.take(), caller.ended) == (b"", False)
    upstream.feed(OK)
    assert caller.take().endswith(b"ok")


async def test_a_caller_whose_connection_ends_is_read_on() -> None:
    """What it still sends would else meet a reset, which overtakes the response."""
    sidekey = Scripted(H)
    caller, upstream = await warm(sidekey)
    upstream.choke()
    caller.feed(request("POST", "/a", "Content-Length: 1000") + b"first")
    caller.feed(b"second")
    assert not caller.reading
    upstream.feed(OK)
    assert caller.take().endswith(b"ok")
    assert (caller.ended, caller.reading) == (True, True)


async def test_the_time_of_a_body_begins_again_when_its_caller_takes_more() -> None:
    """Of an early response that had filled them: until then nothing but the writing was due."""
    sidekey = Scripted(H, timeouts=Timeouts(idle=5, write=5))
    deadlines = sidekey.plane.worker.deadlines
    caller, upstream = await cold(sidekey, request("POST", "/a", "Content-Length: 1000") + b"first")
    caller.choke()
    upstream.feed(EARLY)
    deadlines.look(3.0)
    caller.relieve()
    deadlines.look(7.9)
    assert not caller.cut
    deadlines.look(8.0)
    assert caller.cut


async def test_a_connection_that_is_lost_is_freed_at_once() -> None:
    """Its parser holds its callbacks: a cycle that would wait for the garbage collector."""

    def count() -> int:
        return sum(isinstance(each, CallerConnection) for each in gc.get_objects())

    sidekey = Scripted(H)
    gc.collect()
    gc.disable()
    try:
        before = count()
        caller, _ = await warm(sidekey)
        assert count() == before + 1
        caller.lose(ConnectionResetError())
        await settle()
        # A transport lets go of its protocol.
        caller.protocol = asyncio.Protocol()
        assert count() == before
    finally:
        gc.enable()


async def test_a_caller_without_a_descriptor_is_told_before_its_request_is_read() -> None:
    """503, and the connection closes, where everybody else has a request under way."""
    sidekey = Scripted(H, limits=Limits(in_flight=2))
    sidekey.plane.worker.limit_descriptors(3)
    await cold(sidekey, get("/1"))
    refused = sidekey.caller()
    said = wire.first_response(refused.take())
    assert said is not None
    assert (said.status, problem(said)["code"]) == (503, "overloaded")
    assert problem(said)["detail"] == "no file descriptor (NOFILE) is left for another connection"
    assert (said.values(b"retry-after"), said.values(b"connection")) == ([b"1"], [b"close"])
    assert refused.is_closing()
    await settle()
    assert len(sidekey.plane.worker.connections) == 1


async def test_a_connection_is_idle_between_requests_alone() -> None:
    """Not within a head, nor while one is under way, though time runs for its body: no room is made of those."""
    sidekey = Scripted(H)
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


def test_each_reason_to_read_no_more_is_a_bit_of_its_own() -> None:
    """One can end without another."""
    reasons = (PAUSED_BY_QUEUE, PAUSED_BY_BODY, PAUSED_BY_CONNECT)
    assert all(reason.bit_count() == 1 for reason in reasons)
    assert len(set(reasons)) == len(reasons)


async def test_a_request_that_has_arrived_in_time_is_looked_for_again_at_the_next_tick() -> None:
    """Where it turns out to be none, the connection has had its time."""
    worker = Scripted(H).plane.worker
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


async def test_a_connection_on_which_something_has_arrived_makes_no_room() -> None:
    """Nobody has read it yet, and a close would reset it."""
    worker = Scripted(H).plane.worker
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
async def test_a_drain_leaves_the_end_of_an_idle_connection_to_its_caller(*, caller_ends: bool) -> None:
    """The end of stream is sent at the second look; the connection is closed for the caller's, or after LINGER."""
    sidekey = Scripted(H)
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


async def test_a_response_that_says_close_leaves_the_end_to_a_caller_that_did_not() -> None:
    """Another request may be on its way, which a close at once would have the kernel answer by a reset."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get())
    sidekey.plane.drain()
    upstream.feed(OK)
    assert b"\r\nConnection: close\r\n" in caller.take()
    caller.feed(get("/dropped"))
    assert (caller.ended, caller.is_closing()) == (True, False)
    caller.finish()
    assert caller.is_closing()
    assert targets(upstream.take()) == [b"/api/a"]


async def test_the_end_of_keep_alive_is_left_to_the_caller() -> None:
    """As that of a drain: a request that crosses it meets no reset."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get())
    upstream.feed(OK)
    deadlines = sidekey.plane.worker.deadlines
    deadlines.look(sidekey.plane.worker.rules.timeouts.keep_alive)
    assert (caller.ended, caller.is_closing()) == (True, False)
    deadlines.look(deadlines.now + LINGER)
    assert caller.is_closing()


@pytest.mark.parametrize("keep_alive", [1.0, 7500.0])
async def test_a_reload_does_not_move_since_when_a_connection_is_idle(keep_alive: float) -> None:
    """So a drain ends it as soon, and a request that may be about to come has its tick: its deadline is of before."""
    sidekey = Scripted(H)
    caller, upstream = await cold(sidekey, get())
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
