"""Limit how many of the requests in flight go to one origin, or to one integration with a limit of its own.

An origin gets at most half: the largest share that leaves one for the others, and few upstreams hang at the same time.
Waiting requests count too, and belong to the origin: a server that hangs does so for every integration that calls it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem

RETRY_AFTER: Final = ("Retry-After", "1")


class Shares:
    """The requests in flight by origin, or by the ID of an integration.

    A key without requests is removed, because a caller may name any number of origins. A reload does not reset the
    counts, since requests that began before it are still in flight.
    """

    __slots__ = ("counts", "limits", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker: Final = worker
        self.counts: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        """The limits of integrations that have their own."""

    def fullness(self) -> Iterator[float]:
        """Yield the requests in flight as a fraction of the limit, for each key."""
        for key, count in [*self.counts.items()]:
            limit = self.limits.get(key, self.worker.origin_limit)
            yield count / min(limit, self.worker.in_flight_limit)


class Share:
    """Counts requests in flight against the limit of an origin (`own` is 0), or of an integration.

    Objects with the same key count together. A lowered limit does not end requests that are in flight.
    """

    __slots__ = ("_key", "_own", "_shares")

    def __init__(self, shares: Shares, key: str, own: int) -> None:
        self._key: Final = key
        self._shares: Final = shares
        self._own: Final = own

    def enter(self) -> bool:
        """Count a request in, or return False if the limit is reached."""
        shares = self._shares
        count = shares.counts.get(self._key, 0)
        if count >= (self._own or shares.worker.origin_limit):
            return False
        shares.counts[self._key] = count + 1
        if self._own:
            shares.limits[self._key] = self._own
        return True

    def leave(self) -> None:
        """Count a request out."""
        shares = self._shares
        count = shares.counts[self._key] - 1
        if count:
            shares.counts[self._key] = count
        else:
            del shares.counts[self._key]
            shares.limits.pop(self._key, None)

    @property
    def problem(self) -> Problem:
        """Build the response to a request that exceeds the limit. It names the limit, but not the origin."""
        if self._own:
            detail = "the integration's own limits.in_flight is reached"
        elif self._shares.worker.is_divided:
            detail = "one origin has half of limits.in_flight in flight, which is the most that one may have"
        else:
            detail = "limits.in_flight is reached"
        return Problem("overloaded", detail, headers=(RETRY_AFTER,))
