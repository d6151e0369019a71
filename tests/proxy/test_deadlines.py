"""The timer of all deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidekey.proxy.deadlines import NEVER, Deadlines
from support.raw_connection import DEADLINE


class Recorder:
    """Records its expiry, and calls `then`."""

    def __init__(self, deadline: float, then: Callable[[], None] = lambda: None) -> None:
        self.deadline = deadline
        self.count = 0
        self._then = then

    def expired(self) -> None:
        self.deadline = NEVER
        self.count += 1
        self._then()


def test_deadline_expires_once() -> None:
    """Never early."""
    deadlines = Deadlines()
    early, late, never = Recorder(1.0), Recorder(2.0), Recorder(NEVER)
    deadlines.watched |= {early, late, never}
    deadlines.look(0.9)
    assert (early.count, late.count) == (0, 0)
    deadlines.look(1.0)
    deadlines.look(1.5)
    assert (early.count, late.count) == (1, 0)
    deadlines.look(3.0)
    assert (early.count, late.count, never.count) == (1, 1, 0)
    assert deadlines.now == 3.0


def test_expiry_can_extend_another_deadline() -> None:
    """In the same tick."""
    deadlines = Deadlines()
    pair: list[Recorder] = []

    def spare() -> None:
        for other in pair:
            other.deadline = NEVER

    pair += [Recorder(1.0, spare), Recorder(1.0, spare)]
    deadlines.watched |= set(pair)
    deadlines.look(1.0)
    assert sum(due.count for due in pair) == 1


def test_expiry_can_remove_deadlines() -> None:
    """During the iteration."""
    deadlines = Deadlines()
    deadlines.watched |= {Recorder(1.0, deadlines.watched.clear) for _ in range(5)}
    deadlines.look(1.0)
    assert deadlines.watched == set()


def test_removed_deadline_never_expires() -> None:
    deadlines = Deadlines()
    due, other = Recorder(1.0), Recorder(1.0)
    deadlines.watch(due)
    deadlines.watch(other)
    deadlines.forget(other)
    deadlines.look(2.0)
    assert (due.count, other.count) == (1, 0)
    assert deadlines.watched == {due}


async def test_timer_ticks_until_it_is_stopped() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    expired = asyncio.Event()
    deadlines.start(loop)
    first = deadlines.now
    deadlines.watched.add(Recorder(first + 0.05, expired.set))
    async with asyncio.timeout(DEADLINE):
        await expired.wait()
    assert deadlines.now >= first + 0.05
    deadlines.stop()
    deadlines.stop()
