"""Who is told that no connection can be made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sidekey.core.urls import Origin
from sidekey.errors import Problem, ProblemError
from support.plane import base_url, get, integration, request
from support.scripted import P, Scripted, ScriptedDialer, settle
from support.upstream import OK

H = integration("h", base_url(1))


class SlowDialer(ScriptedDialer):
    """Connects, or fails, when the test says so; `pending` are those under way, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[asyncio.Future[None]] = []

    async def connect(self, factory: Callable[[], P], origin: Origin, **options: Any) -> P:
        pending = asyncio.get_running_loop().create_future()
        self.pending.append(pending)
        await pending
        return await super().connect(factory, origin, **options)

    def fail(self, number: int) -> None:
        self.pending[number].set_exception(ProblemError(Problem("upstream_unreachable", "nobody answers")))


async def test_a_retry_that_connects_is_no_hope_for_those_in_line() -> None:
    """Its connection is for its own request alone: whoever waits beside it is told that theirs cannot be made."""
    dialer = SlowDialer()
    sidekey = Scripted(H, dialer=dialer)
    caller = sidekey.caller()
    caller.feed(get())
    await settle()
    dialer.pending[0].set_result(None)
    stale = await sidekey.upstream()
    stale.feed(OK)
    caller.take()
    caller.feed(get())
    stale.lose(ConnectionResetError())
    await settle()
    assert len(dialer.pending) == 2
    waiting = sidekey.caller()
    waiting.feed(request("POST", body=b"1"))
    await settle()
    assert len(dialer.pending) == 3
    dialer.fail(2)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "no"' in waiting.take()
    assert caller.take() == b""
    dialer.fail(1)
    await settle()
    assert b'"code": "upstream_unreachable", "sent": "maybe"' in caller.take()
    assert sidekey.metrics.in_flight == 0
    assert all(pool.is_empty for pool in sidekey.plane.pools.known())
