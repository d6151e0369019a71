"""How many calls of Sidekey's own may be under way, and how many of their connections may be kept for a later one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from sidekey.core.urls import Origin


class NoSlotError(Exception):
    """Others have not made room in time. `reason` says which limit is in the way."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CallSlots:
    """Connections for calls: at most `most` for all who call, and at most half of them (rounded up) to one endpoint.

    An endpoint that hangs holds a descriptor for as long as each call may take, and would have all of them in the end.
    Others wait for their turn, in the order in which they came.
    """

    def __init__(self, most: int) -> None:
        self._under_way = 0
        # What closes each connection that is kept; the one that has been idle for the longest time first.
        self._kept: dict[Callable[[], None], None] = {}
        self.limit(most)

    def limit(self, most: int) -> None:
        """Allow so many from now on, at most; to be called before there are any."""
        self._most, self._most_each = most, (most + 1) // 2
        self._all = asyncio.Semaphore(most)
        # Those of endpoints that nobody calls are freed.
        self._each: WeakValueDictionary[Origin, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, origin: Origin, deadline: float) -> AsyncIterator[None]:
        """Have a slot for a call to `origin`; wait for it until `deadline`, on the loop's clock. Raises NoSlotError."""
        each = self._each.setdefault(origin, asyncio.Semaphore(self._most_each))
        await _acquire(each, deadline, f"limit of {self._most_each} calls to it at a time reached")
        try:
            await _acquire(self._all, deadline, f"limit of {self._most} calls at a time reached, which NOFILE allows")
            self._under_way += 1
            try:
                yield
            finally:
                self._under_way -= 1
                self._all.release()
        finally:
            each.release()

    def make_room(self) -> None:
        """Close a kept connection where the new one of a call would be too many."""
        if self._under_way + len(self._kept) > self._most:
            next(iter(self._kept))()

    def keep(self, close: Callable[[], None]) -> None:
        """Hear of a connection that is kept from now on. `close` must call `forget`."""
        self._kept[close] = None

    def forget(self, close: Callable[[], None]) -> None:
        """Hear that it is not kept any more."""
        del self._kept[close]


async def _acquire(slots: asyncio.Semaphore, deadline: float, reason: str) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await slots.acquire()
    except TimeoutError:
        raise NoSlotError(reason) from None
