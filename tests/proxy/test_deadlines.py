"""The one timer of all deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidekey.proxy.deadlines import NEVER, Deadlines
from support.raw_connection import DEADLINE


class Due:
    """Records that it expired; `then` is what it does about it."""

    def __init__(self, deadline: float, then: Callable[[], None] = lambda: None) -> None:
        self.deadline = deadline
        self.count = 0
        self._then = then

    def expired(self) -> None:
        self.deadline = NEVER
        self.count += 1
        self._then()


def test_what_is_due_expires_once() -> None:
    """At its time or later, not before, and not again."""
    deadlines = Deadlines()
    early, late, never = Due(1.0), Due(2.0), Due(NEVER)
    deadlines.watched |= {early, late, never}
    deadlines.look(0.9)
    assert (early.count, late.count) == (0, 0)
    deadlines.look(1.0)
    deadlines.look(1.5)
    assert (early.count, late.count) == (1, 0)
    deadlines.look(3.0)
    assert (early.count, late.count, never.count) == (1, 1, 0)
    assert deadlines.now == 3.0


def test_one_that_expires_may_save_another() -> None:
    """A deadline moved in the same look counts."""
    deadlines = Deadlines()
    pair: list[Due] = []

    def spare() -> None:
        for other in pair:
            other.deadline = NEVER

    pair += [Due(1.0, spare), Due(1.0, spare)]
    deadlines.watched |= set(pair)
    deadlines.look(1.0)
    assert sum(due.count for due in pair) == 1


def test_one_that_expires_may_leave_and_take_others_along() -> None:
    """The set changes while it is looked through."""
    deadlines = Deadlines()
    deadlines.watched |= {Due(1.0, deadlines.watched.clear) for _ in range(5)}
    deadlines.look(1.0)
    assert deadlines.watched == set()


def test_what_is_forgotten_never_expires() -> None:
    """The others do."""
    deadlines = Deadlines()
    due, other = Due(1.0), Due(1.0)
    deadlines.watch(due)
    deadlines.watch(other)
    deadlines.forget(other)
    deadlines.look(2.0)
    assert (due.count, other.count) == (1, 0)
    assert deadlines.watched == {due}


async def test_time_goes_on_by_itself_until_it_is_stopped() -> None:
    """The loop's timer looks again and again."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    expired = asyncio.Event()
    deadlines.start(loop)
    first = deadlines.now
    deadlines.watched.add(Due(first + 0.05, expired.set))
    async with asyncio.timeout(DEADLINE):
        await expired.wait()
    assert deadlines.now >= first + 0.05
    deadlines.stop()
    deadlines.stop()
