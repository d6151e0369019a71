"""When a token is refreshed, and from when on it is no longer handed out. Seconds on a monotonic clock."""

from __future__ import annotations

from typing import NamedTuple

LEAST_MARGIN = 30.0
"""Seconds before expiry at which a token is refreshed at the latest, where its life is long enough."""

JITTER = 0.1
"""The part of the margin by which a refresh may come earlier, so that many processes do not call at once."""


class Schedule(NamedTuple):
    """Moments of one token's life: `refresh_at` < `ends_at` < `expires_at`.

    From `ends_at` on it is not handed out: a request takes some time to the upstream, and must not come expired.
    """

    refresh_at: float
    ends_at: float
    expires_at: float


def schedule(called: float, life: float, jitter: float) -> Schedule:
    """Lay out the life, in seconds, of a token whose call was sent at `called`; `jitter` is within 0 and 1."""
    expiry = called + life
    margin = min(max(LEAST_MARGIN, life / 10), life / 2)
    return Schedule(expiry - margin * (1 + JITTER * jitter), expiry - min(1.0, life / 20), expiry)
