"""Timers that keep nothing alive: what they would call may be gone by then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakMethod


def call_weakly_at(loop: asyncio.AbstractEventLoop, when: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Have the loop call a bound method at `when`, on its own clock, if its object still lives then.

    The loop holds on to whatever a timer refers to: a source that nobody uses any more would live as long as its token.
    """
    return loop.call_at(when, _call, WeakMethod(method))


def _call(reference: WeakMethod[Callable[[], None]]) -> None:
    method = reference()
    if method is not None:
        method()
