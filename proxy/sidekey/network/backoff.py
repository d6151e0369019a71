"""How long to wait after calls that failed, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from sidekey.refresh import Pause

FIRST = 1.0
LONGEST = 60.0
LONGEST_ASKED = 3600.0
"""Seconds of a `Retry-After` that are honoured: an endpoint may not lock an integration out for a day."""

_DOUBLINGS = 6


def pause(failures: int, jitter: float, asked: float | None = None) -> float:
    """Seconds until the next attempt, after this many failures in a row (at least one).

    It doubles up to `LONGEST`; `jitter`, within 0 and 1, takes away up to a quarter. `asked` is the response's
    `Retry-After` in seconds, which can only make it longer.
    """
    base: float = min(LONGEST, FIRST * 2 ** min(failures - 1, _DOUBLINGS))
    return max(base * (1 - jitter / 4), min(asked or 0.0, LONGEST_ASKED))


def growing(jitter: Callable[[], float]) -> Pause:
    """`pause`, with another jitter each time, for a `Refresh`."""
    return lambda failures, asked: pause(failures, jitter(), asked)
