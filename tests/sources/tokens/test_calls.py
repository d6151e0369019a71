"""sources/tokens/calls.py: an attempt's calls, each with the newest of what they brought."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from sidekey.credentials.base import Call, CallFault, Reply
from sidekey.sources.tokens.auth_flow import Fetch, FlowRunner
from sidekey.sources.tokens.call_limit import CallLimit
from sidekey.sources.tokens.calls import Calls
from support.sharing import Family, Rotating
from support.still import advance


def runner(fetch: Fetch) -> FlowRunner:
    """One that counts nothing and takes every base URL."""
    return FlowRunner(fetch, CallLimit(None), asyncio.get_running_loop().time, lambda _: None, lambda _: None)


def calls_of(endpoint: Family, memory: str | None = None) -> Calls:
    """The calls for a token of the family."""
    return Calls(Rotating(endpoint), runner, lambda: 0.0, memory, rejected=False, pauses=(0.5, 0.5))


async def test_what_a_call_brought_is_known_afterwards() -> None:
    endpoint = Family()
    calls = calls_of(endpoint)
    obtained = await calls.run(endpoint.fetch)
    assert (calls.memory, obtained.issued.memory) == ("r1", "r1")
    assert [call.body for call in endpoint.calls] == [b"r0"]


async def test_a_token_that_has_ended_is_asked_for_again_with_what_came_with_it() -> None:
    """After each pause, and once more; the last error is raised."""
    endpoint = Family()
    endpoint.brings_none = True
    calls = calls_of(endpoint)
    running = asyncio.create_task(calls.run(endpoint.fetch))
    await advance(1, step=0.5)
    with pytest.raises(CallFault, match="it has expired"):
        await running
    assert [call.body for call in endpoint.calls] == [b"r0", b"r1", b"r2"]
    assert (endpoint.moments, calls.memory) == ([0, 0.5, 1.0], "r3")


@pytest.mark.parametrize("memory", [None, "r0"])
async def test_a_call_that_brought_nothing_leaves_what_was_known(memory: str | None) -> None:
    endpoint = Family()
    endpoint.down = {"outcome": "timeout", "reason": "no response"}
    calls = calls_of(endpoint, memory)
    with pytest.raises(CallFault, match="no response"):
        await calls.run(endpoint.fetch)
    assert (calls.memory, len(endpoint.calls)) == (memory, 1)


async def test_what_a_fetch_raises_is_raised() -> None:
    """Whatever it is; nothing is tried again."""

    async def fetch(call: Call, calls: list[Call]) -> Reply:
        calls.append(call)
        raise ZeroDivisionError

    made: list[Call] = []
    with pytest.raises(ZeroDivisionError):
        await calls_of(Family()).run(partial(fetch, calls=made))
    assert len(made) == 1
