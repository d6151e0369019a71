"""dataplane/bulk.py: a long body is received in long reads, and nothing but the length of a read changes by it."""

from __future__ import annotations

import asyncio

import pytest

from sidekey.dataplane.buffers import BULK, BYPASS
from sidekey.dataplane.bulk import BulkReader
from support import wire
from support.plane import base_url, get, integration, request, running
from support.scripted import RecordingTransport, Scripted
from support.upstream import RawUpstream

H = integration("h", base_url(1))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def pattern(size: int, first: int) -> bytes:
    """Bytes that tell where they belong: another body has others at the same place."""
    return bytes((first + at) % 251 for at in range(min(size, 251))) * (size // 251 + 1)


def post(body: bytes) -> bytes:
    return request("POST", "/a", f"Content-Length: {len(body)}")


async def sending(
    sidekey: Scripted, body: bytes, begun: int, number: int = 0
) -> tuple[RecordingTransport, RecordingTransport]:
    """A caller and the upstream of that number, to which so many bytes of the body have passed."""
    caller = sidekey.caller()
    caller.feed(post(body) + body[:1])
    upstream = await sidekey.upstream(number)
    caller.feed(body[1:begun])
    return caller, upstream


@pytest.mark.parametrize("size", [BYPASS + 1, BULK, BULK + 1, BULK + 2, 3 * BULK + 7])
async def test_a_body_and_the_request_behind_it_arrive_whole(size: int) -> None:
    """On both sides of the length from which reads are long; what follows is read as ever."""
    body = pattern(size, 7)[:size]
    sidekey = Scripted(H)
    caller, upstream = await sending(sidekey, body, 2)
    assert isinstance(caller.protocol, BulkReader) is (size - 2 > BULK)
    caller.feed(body[2:] + get("/next"))
    assert not isinstance(caller.protocol, BulkReader)
    (message,) = wire.requests(upstream.take())
    assert message.body == body
    upstream.feed(OK)
    (message,) = wire.requests(upstream.take())
    assert message.target == b"/api/next"


async def test_a_read_has_room_for_half_a_mebibyte() -> None:
    """Twice what uvloop reads by itself, so that there are half as many calls into the kernel."""
    body = pattern(3 * BULK, 7)[: 3 * BULK]
    caller, _ = await sending(Scripted(H), body, 2)
    assert isinstance(caller.protocol, BulkReader)
    assert len(caller.protocol.get_buffer(-1)) == 524_288


async def test_bodies_that_come_in_turn_are_kept_apart() -> None:
    """They are received in the same place, and an upstream that is full takes its own later."""
    size = 4 * BULK
    bodies = [pattern(size, first)[:size] for first in (1, 100)]
    sidekey = Scripted(H)
    one, first = await sending(sidekey, bodies[0], 2)
    other, second = await sending(sidekey, bodies[1], 2, number=1)
    for at in range(2, size, BULK):
        one.feed(bodies[0][at : at + BULK])
        other.feed(bodies[1][at : at + BULK])
        await asyncio.sleep(0)
    for upstream, body in ((first, bodies[0]), (second, bodies[1])):
        (message,) = wire.requests(upstream.take())
        assert message.body == body


async def test_a_full_upstream_stops_the_reading() -> None:
    """And what is read on then is what came next."""
    body = pattern(4 * BULK, 3)[: 4 * BULK]
    sidekey = Scripted(H)
    caller, upstream = await sending(sidekey, body, 2)
    upstream.choke()
    caller.feed(body[2 : 2 + BULK])
    assert not caller.reading
    caller.feed(body[2 + BULK :])
    upstream.relieve()
    await asyncio.sleep(0)
    (message,) = wire.requests(upstream.take())
    assert message.body == body


@pytest.mark.parametrize("short", [0, 9])
@pytest.mark.parametrize("others", [0, 1])
async def test_others_have_their_turn_after_two_full_reads(others: int, short: int) -> None:
    """A loop that finds a buffer full reads again at once; not one that has made a short read before.

    Nobody is waited for where nobody is there.
    """
    body = pattern(5 * BULK, 3)[: 5 * BULK]
    sidekey = Scripted(H)
    for _ in range(others):
        sidekey.caller()
    caller, upstream = await sending(sidekey, body, 2)
    if short:
        caller.feed(body[2 : 2 + short])
    caller.feed(*(body[at : at + BULK] for at in range(2 + short, len(body), BULK)))
    assert caller.reading is (not others)
    written = len(upstream.written)
    assert written >= len(body) if not others else 2 * BULK < written < 3 * BULK
    for _ in range(4):
        await asyncio.sleep(0)
    (message,) = wire.requests(upstream.take())
    assert message.body == body
    assert caller.reading


async def test_a_caller_that_leaves_cuts_the_request() -> None:
    """By the end of its stream, or by a reset."""
    for leave in (RecordingTransport.finish, lambda caller: caller.lose(ConnectionResetError())):
        body = pattern(2 * BULK, 3)
        sidekey = Scripted(H)
        caller, upstream = await sending(sidekey, body, 2)
        leave(caller)
        await asyncio.sleep(0)
        assert upstream.cut
        assert sidekey.metrics.in_flight == 0


async def test_a_caller_that_does_not_read_is_waited_for() -> None:
    """Flow control of the response goes on while the body still comes."""
    body = pattern(2 * BULK, 3)
    sidekey = Scripted(H)
    caller, upstream = await sending(sidekey, body, 2)
    caller.choke()
    upstream.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfirst")
    assert not upstream.reading
    caller.relieve()
    assert upstream.reading


async def test_reads_are_long_on_a_real_loop() -> None:
    """16 MiB in both bodies at once; each arrives as it was sent, and the connections serve again."""
    size = 16 << 20
    bodies = [pattern(size, first)[:size] for first in (1, 100)]

    async with (
        RawUpstream() as upstream,
        running(integration("h", base_url(upstream.port))) as sidekey,
        sidekey.connect() as one,
        sidekey.connect() as other,
    ):
        for caller, body in ((one, bodies[0]), (other, bodies[1])):
            caller.transport.write(post(body) + body)
        for caller in (one, other):
            assert (await caller.response()).status == 200
            caller.transport.write(get())
            assert (await caller.response()).status == 200
    assert sorted(message.body for message in upstream.requests if message.body) == sorted(bodies)
