"""One coarse timer for all deadlines: a tick looks at every watched object, so moving a deadline costs one store."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

NEVER: Final = float("inf")
TICK: Final = 0.1
"""Seconds between looks: a deadline is kept to within this."""


class Watched(Protocol):
    """What can expire."""

    deadline: float

    def expired(self) -> None:
        """Act on a deadline that has passed."""
        ...


class Deadlines:
    """The clock of the data plane. `now` is the loop's time at the last tick, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to tick."""
        self.now = loop.time()
        self._timer = loop.call_later(TICK, self._tick, loop)

    def stop(self) -> None:
        """Stop ticking; nothing expires any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, watched: Watched) -> None:
        """Look at an object's deadline from now on."""
        self.watched.add(watched)

    def forget(self, watched: Watched) -> None:
        """Look at it no more."""
        self.watched.discard(watched)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK, self._tick, loop)
        self.look(loop.time())

    def look(self, now: float) -> None:
        """Let everything expire whose deadline has passed at `now`."""
        self.now = now
        for late in [watched for watched in self.watched if watched.deadline <= now]:
            if late.deadline <= now:
                late.expired()
