"""At most a number of calls in any minute."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0


class CallLimit:
    """Remembers when the last `most` calls were made; None: any number may be."""

    __slots__ = ("_made", "most")

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._made: deque[float] = deque(maxlen=most or 0)

    def at_most(self, most: int | None) -> CallLimit:
        """The limit for another number of calls, which remembers those that were made."""
        if most == self.most:
            return self
        found = CallLimit(most)
        found._made.extend(self._made)
        return found

    def wait(self, now: float) -> float:
        """Seconds until a call may be made, 0 where it may be made now."""
        if self.most is None or len(self._made) < self.most:
            return 0.0
        return max(0.0, self._made[0] + WINDOW - now) if self._made else WINDOW

    def note(self, now: float) -> None:
        """Remember a call that is made now."""
        self._made.append(now)
