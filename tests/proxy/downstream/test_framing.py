"""Every row of tests/cases/framing.json: in one read, byte by byte, and followed by a second request."""

from __future__ import annotations

import asyncio

import pytest

from support import wire
from support.cases import rows
from support.memory import MemoryUpstream, running
from support.plane import CREDENTIAL, base_url, get, integration
from support.raw_connection import RawConnection
from support.wire import Message

ROWS = [pytest.param(row["raw"].encode("latin-1"), row["expect"], id=row["name"]) for row in rows("framing")]
REFUSALS = {501, 505, *range(400, 500)}
SECOND = get("/second", "Connection: close")


def assert_clean(requests: list[Message]) -> None:
    """Each request has the prefix, unambiguous framing, and exactly one credential."""
    for request in requests:
        assert request.target.startswith(b"/api/")
        assert request.values(b"authorization") == [CREDENTIAL]
        assert len(request.values(b"content-length")) + len(request.values(b"transfer-encoding")) <= 1
        assert request.values(b"upgrade") == request.values(b"http2-settings") == []


async def conversation(caller: RawConnection, *, to_head: bool) -> list[Message]:
    """Parse the responses of a connection up to its end. With `to_head`, the first is to HEAD."""
    responses: list[Message] = []
    await caller.until_ended()
    while caller.consumed < len(caller.received):
        responses.append(await caller.response(to_head=to_head and not responses))
    return responses


@pytest.mark.parametrize(("raw", "expect"), ROWS)
@pytest.mark.parametrize("pieces", ["whole", "dribbled"])
async def test_a_row_of_the_framing_table(raw: bytes, expect: str, pieces: str) -> None:
    """A refused request reaches no upstream and closes the connection. A forwarded request arrives once."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            if pieces == "whole":
                await caller.send(raw)
            else:
                await dribble(caller, raw)
            response = await caller.response(to_head=raw.startswith(b"HEAD"))
            if expect == "reject":
                assert response.values(b"connection") == [b"close"]
                await caller.until_ended()
        await sidekey.wait_until_idle()
        if response.status == 200:
            assert expect != "reject"
            assert_clean(upstream.requests)
            assert len(upstream.requests) == 1
            return
        assert expect != "forward"
        assert response.status in REFUSALS
        if pieces == "whole":
            assert upstream.received == []
        else:
            # Where the head was sound the upstream saw the start of a request; it must never look complete.
            assert all(wire.first_request(data) is None for data in upstream.received)


async def dribble(caller: RawConnection, raw: bytes) -> None:
    """Send each byte as a segment of its own. Nagle's algorithm is off on both loops."""
    for at in range(len(raw)):
        if caller.received:
            return
        caller.transport.write(raw[at : at + 1])
        await asyncio.sleep(0)


@pytest.mark.parametrize(("raw", "expect"), ROWS)
async def test_a_row_followed_by_a_second_request(raw: bytes, expect: str) -> None:
    """Sidekey answers the second request after the first or not at all, and forwards no bytes between them."""
    async with MemoryUpstream() as upstream, running(integration("h", base_url(upstream.port))) as sidekey:
        async with sidekey.connect() as caller:
            await caller.send(raw + SECOND)
            responses = await conversation(caller, to_head=raw.startswith(b"HEAD"))
        await sidekey.wait_until_idle()
        statuses = [response.status for response in responses]
        assert_clean(upstream.requests)
        assert len(upstream.requests) == statuses.count(200)
        if expect == "reject":
            assert len(statuses) == 1
            assert statuses[0] in REFUSALS
        elif expect == "forward":
            assert statuses == [200, 200]
            assert [request.target for request in upstream.requests] == [b"/api/a", b"/api/second"]
        else:
            assert len(statuses) <= 2
            assert all(status in {200, *REFUSALS} for status in statuses)
