"""The row of SIGTERMs, short: a real Sidekey that is told to end under load."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from benchmarks.arena import Arena
from benchmarks.rows.drain import Drain
from benchmarks.storm import ANSWERED, ENDED, RESET, Caller
from support.peers import require
from support.raw import RawConnection
from support.upstream import OK, RawUpstream

CLOSING = b"HTTP/1.1 503 No\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"


def test_requests_and_their_ends_are_counted(arena: Arena) -> None:
    """None is reset, and the row says that none may be."""
    require("nginx")
    outcome = Drain(signals=1, seconds=0.2).run(arena)
    assert outcome.failures == {}
    values = {line.label: line.values["sidekey"] for line in outcome.lines}
    assert values["requests"] > 0
    assert (values["requests reset"], values["responses other than 200"]) == (0, 0)
    assert [line.label for line in outcome.lines if line.reach is not None] == [
        "requests reset",
        "responses other than 200",
    ]


@pytest.mark.parametrize("end", [ANSWERED, "503", ENDED, RESET])
async def test_each_end_is_told_from_the_others(end: str) -> None:
    """A response in pieces, one that closes the connection, an end without one, and a reset."""

    async def script(connection: RawConnection) -> None:
        await connection.request()
        if end == ANSWERED:
            for piece in (OK[:20], OK[20:-1], OK[-1:]):
                await connection.send(piece)
        elif end == "503":
            await connection.send(CLOSING)
        elif end == ENDED:
            connection.close()
        else:
            connection.reset()

    ends: Counter[str] = Counter()
    async with RawUpstream(script) as server:
        loop = asyncio.get_running_loop()
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        _, caller = await loop.create_connection(lambda: Caller(ends, request), "127.0.0.1", server.port)
        await caller.ask()
        assert ends == {end: 1}
        assert caller.open is (end == ANSWERED)
        if caller.open:
            caller.leave()
        await server.connections[0].until_ended()
    assert ends == {end: 1}
