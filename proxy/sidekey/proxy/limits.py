"""Limits on what requests use: memory for bodies that are held to be signed, and slots for requests in flight.

A body that does not fit into `limits.held_bodies` is refused at once. One integration may use half of that limit, so
that its callers cannot exclude the callers of all other integrations. `Worker` holds the total of all requests in
flight; this module limits those of one origin or integration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sidekey.errors import Problem
from sidekey.proxy.transport import append_piece
from sidekey.proxy.worker import Worker

RETRY_AFTER: Final = ("Retry-After", "1")

STOPPING: Final = Problem("overloaded", "Sidekey is stopping", headers=(RETRY_AFTER,))
"""The response to what would open a tunnel or a WebSocket while Sidekey stops."""

MIN_BYTES_PER_SECOND: Final = 16 << 10
"""Average speed that a held body must reach once `timeouts.idle` has passed.

`timeouts.idle` only ends callers that pause. A caller that sends a byte now and then would hold its memory forever.
"""

_FULL: Final = Problem(
    "overloaded",
    "limits.held_bodies is reached, of which one integration may use half",
    headers=(RETRY_AFTER,),
)
TOO_SLOW: Final = Problem(
    "request_timeout", f"the body is signed and came at less than {MIN_BYTES_PER_SECOND >> 10} KiB/s"
)


class BufferedBody:
    """The pieces of one held body, and the bytes that it reserves of `limits.held_bodies`."""

    __slots__ = ("_began", "_integration", "_pieces", "_reserved", "_size", "_worker")

    def __init__(self, worker: Worker, integration: str) -> None:
        self._worker: Final = worker
        self._integration: Final = integration
        self._began: Final = worker.deadlines.now
        self._pieces: list[bytes] = []
        self._size = self._reserved = 0

    def add(self, pieces: list[bytes], length: int) -> Problem | None:
        """Add pieces and reserve bytes for them. Return the problem if they do not fit.

        All of `length`, from the head, is reserved at once. A chunked body (CHUNKED) is reserved as it arrives.
        """
        for piece in pieces:
            self._size += len(piece)
            append_piece(self._pieces, piece)
        missing = max(length, self._size) - self._reserved
        if missing > 0:
            if not self._worker.reserve_body(self._integration, missing):
                return _FULL
            self._reserved += missing
        return None

    def is_too_slow(self, now: float, idle: float) -> bool:
        """Return True if the body is slower than `MIN_BYTES_PER_SECOND`. `idle` is `timeouts.idle`."""
        return self._size < (now - self._began - idle) * MIN_BYTES_PER_SECOND

    def collect(self) -> list[bytes]:
        """Return the pieces of the complete body. Its bytes stay reserved."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def release(self, size: int) -> None:
        """Release bytes that were written. A second write of the body releases none."""
        size = min(size, self._reserved)
        if size:
            self._reserved -= size
            self._worker.release_body(self._integration, size)

    def end(self) -> None:
        """Drop the pieces and release all bytes."""
        self._pieces = []
        self.release(self._reserved)


class InFlightCounters:
    """The requests in flight of one process, by the key of their `InFlightCounter`.

    A key without requests is removed, because a caller may name any number of origins. A reload does not reset the
    counts, since requests that began before it are still in flight.
    """

    __slots__ = ("counts", "limits", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker: Final = worker
        self.counts: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        """The limits of integrations that set `limits.in_flight`."""

    def utilization(self) -> Iterator[float]:
        """Yield the requests in flight as a fraction of the limit, for each key."""
        for key, count in [*self.counts.items()]:
            limit = self.limits.get(key, self.worker.origin_limit)
            yield count / min(limit, self.worker.in_flight_limit)


class InFlightCounter:
    """Counts the requests in flight of one origin or integration, and refuses those over the limit.

    `key` is the origin, or the ID of the integration. `limit` is the integration's own, or 0 for the limit that all
    origins have. Objects with the same key count together. A lower limit does not end requests that are in flight.
    """

    __slots__ = ("_counters", "_key", "_limit")

    def __init__(self, counters: InFlightCounters, key: str, limit: int) -> None:
        self._key: Final = key
        self._counters: Final = counters
        self._limit: Final = limit

    def enter(self) -> bool:
        """Count a request in, or return False if the limit is reached."""
        counters = self._counters
        count = counters.counts.get(self._key, 0)
        if count >= (self._limit or counters.worker.origin_limit):
            return False
        counters.counts[self._key] = count + 1
        if self._limit:
            counters.limits[self._key] = self._limit
        return True

    def leave(self) -> None:
        """Count a request out."""
        counters = self._counters
        count = counters.counts[self._key] - 1
        if count:
            counters.counts[self._key] = count
        else:
            del counters.counts[self._key]
            counters.limits.pop(self._key, None)

    @property
    def problem(self) -> Problem:
        """Build the response to a request that exceeds the limit. It names the limit, but not the origin."""
        if self._limit:
            detail = "the integration's own limits.in_flight is reached"
        elif self._counters.worker.has_several_origins:
            detail = "one origin has half of limits.in_flight in flight, which is the most that one may have"
        else:
            detail = "limits.in_flight is reached"
        return Problem("overloaded", detail, headers=(RETRY_AFTER,))
