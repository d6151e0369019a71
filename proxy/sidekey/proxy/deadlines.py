"""One coarse timer for all deadlines. Each tick checks every watched object, so moving a deadline is one assignment."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

NEVER: Final = float("inf")
TICK: Final = 0.1
"""Seconds between checks, and so the precision of a deadline."""


class HasDeadline(Protocol):
    """An object with a deadline."""

    deadline: float

    def expired(self) -> None:
        """Act on a deadline that has passed."""
        ...


class Deadlines:
    """The timer of the data plane. `now` is the loop's time at the last tick, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.watched: set[HasDeadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the timer."""
        self.now = loop.time()
        self._timer = loop.call_later(TICK, self._tick, loop)

    def stop(self) -> None:
        """Stop the timer. Nothing expires after this."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, watched: HasDeadline) -> None:
        """Check the deadline of an object from now on."""
        self.watched.add(watched)

    def forget(self, watched: HasDeadline) -> None:
        """Stop checking an object."""
        self.watched.discard(watched)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK, self._tick, loop)
        self.look(loop.time())

    def look(self, now: float) -> None:
        """Set the time to `now`, and call `expired` of each object whose deadline has passed."""
        self.now = now
        for watched in [watched for watched in self.watched if watched.deadline <= now]:
            # The expiry of another object may have moved the deadline.
            if watched.deadline <= now:
                watched.expired()
