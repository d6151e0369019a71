"""Timestamps of log lines: ISO 8601, UTC, microseconds. Only the fraction is formatted for each line."""

from __future__ import annotations

from time import gmtime, strftime, time_ns


class Clock:
    """Formats the current time, such as `2026-01-31T23:59:59.000001Z`. Thread-safe."""

    __slots__ = ("_cached",)

    def __init__(self) -> None:
        self._cached = (-1, "")

    def stamp(self) -> str:
        """Format the current time."""
        return self.format(time_ns())

    def format(self, nanoseconds: int) -> str:
        """Format a Unix time in nanoseconds."""
        second = nanoseconds // 1_000_000_000
        cached, prefix = self._cached
        if second != cached:
            prefix = strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second))
            self._cached = (second, prefix)
        # A leading 1 keeps the zeros; a format would cost twice as much.
        return f"{prefix}{str(1_000_000 + nanoseconds // 1000 % 1_000_000)[1:]}Z"
