"""network/timers.py: what a timer would call may be gone by then."""

from __future__ import annotations

import asyncio
import gc
import weakref

from sidekey.network.timers import call_weakly_at


class Holder:
    """Counts how often it was called."""

    def __init__(self, calls: list[int]) -> None:
        self._calls = calls

    def call(self) -> None:
        self._calls.append(1)


async def test_the_method_is_called_while_its_object_lives() -> None:
    """Once."""
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    holder = Holder(calls)
    call_weakly_at(loop, loop.time(), holder.call)
    done = asyncio.Event()
    loop.call_at(loop.time() + 0.02, done.set)
    await done.wait()
    assert calls == [1]


async def test_a_timer_keeps_nothing_alive() -> None:
    """The object goes at once, without the garbage collector; at its time nothing happens."""
    loop = asyncio.get_running_loop()
    calls: list[int] = []
    gc.disable()
    try:
        holder = Holder(calls)
        call_weakly_at(loop, loop.time() + 0.01, holder.call)
        seen = weakref.ref(holder)
        del holder
        assert seen() is None
    finally:
        gc.enable()
    done = asyncio.Event()
    loop.call_at(loop.time() + 0.03, done.set)
    await done.wait()
    assert calls == []
