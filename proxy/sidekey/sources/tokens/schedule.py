"""When a token is refreshed, and from when on it is no longer handed out. Seconds on a monotonic clock."""

from __future__ import annotations

from typing import NamedTuple

LEAST_MARGIN = 30.0
"""Seconds before expiry by which a token is refreshed, where its life is long enough."""

JITTER = 0.1
"""The part of the margin by which a refresh may come earlier, so that many processes do not call at once."""


class Schedule(NamedTuple):
    """Moments of one token's life: `refresh_at` < `ends_at` < `expires_at`.

    From `ends_at` on it is not handed out: a request takes some time to the upstream, and must not arrive expired.
    """

    refresh_at: float
    ends_at: float
    expires_at: float


def schedule(called: float, life: float, jitter: float, renewed_after: float | None = None) -> Schedule:
    """The schedule of a token that lives `life` seconds and whose call was sent at `called`; `jitter` is 0 to 1.

    `renewed_after` is for one that costs no call: no process waits for another, and nothing is to be spared.
    """
    expiry = called + life
    if renewed_after is None:
        margin = min(max(LEAST_MARGIN, life / 10), life / 2)
        refresh_at = expiry - margin * (1 + JITTER * jitter)
    else:
        refresh_at = called + renewed_after
    return Schedule(refresh_at, expiry - min(1.0, life / 20), expiry)
