"""Request bodies that Sidekey holds until they are complete, to sign them, within `limits.held_bodies`.

A body that does not fit is refused at once. One integration may use half of the limit, so that its callers cannot
exclude the callers of all other integrations.
"""

from __future__ import annotations

from typing import Final

from sidekey.dataplane.buffers import append_piece
from sidekey.dataplane.worker import Worker
from sidekey.errors import Problem

SLOWEST: Final = 16 << 10
"""Bytes per second that a held body must average once `timeouts.idle` has passed.

`timeouts.idle` ends only callers that pause. A caller that sends a byte now and then would hold its memory for ever.
"""

_FULL: Final = Problem(
    "overloaded",
    "limits.held_bodies is reached, of which one integration may use half",
    headers=(("Retry-After", "1"),),
)
TOO_SLOW: Final = Problem("request_timeout", f"the body is signed and came at less than {SLOWEST >> 10} KiB/s")


class HeldBody:
    """The pieces of one body, and the bytes reserved for it."""

    __slots__ = ("_began", "_integration", "_pieces", "_reserved", "_size", "_worker")

    def __init__(self, worker: Worker, integration: str) -> None:
        self._worker: Final = worker
        self._integration: Final = integration
        self._began: Final = worker.deadlines.now
        self._pieces: list[bytes] = []
        self._size = self._reserved = 0

    def add(self, pieces: list[bytes], length: int) -> Problem | None:
        """Add pieces and reserve what the body needs, or return why it is refused.

        The `length` in the head is reserved at once. A chunked body (CHUNKED) is reserved as it arrives.
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
        """Return True if the body is slower than SLOWEST. `idle` is `timeouts.idle`."""
        return self._size < (now - self._began - idle) * SLOWEST

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
