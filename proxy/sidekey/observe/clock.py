"""Timestamps of log lines: ISO 8601, UTC, microseconds. Everything but the fraction is formatted once a second."""

from __future__ import annotations

from time import gmtime, strftime, time_ns


class Clock:
    """Formats the present moment, such as `2026-01-31T23:59:59.000001Z`."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def stamp(self) -> str:
        """Format the present moment."""
        return self.format(time_ns())

    def format(self, nanoseconds: int) -> str:
        """Format the moment that many nanoseconds after the epoch."""
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second != self._second:
            # The prefix first: another thread that sees the new second must not see the old prefix.
            self._prefix = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
            self._second = second
        return f"{self._prefix}{rest // 1000:06d}Z"
