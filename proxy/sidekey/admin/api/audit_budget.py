"""Bound the audit entries that one token causes, and count the events that have no entry of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from sidekey.store.audit import AuditEntry

_HOUR: Final = 3600.0

Write = Callable[[AuditEntry, tuple[int, AuditEntry] | None], Awaitable[int]]
"""Writes an entry in place of the previous one, if any, and returns its number."""


@dataclass(slots=True)
class _Window:
    """The hour of one token that its first event began. `summary` is the entry for the events that are not listed."""

    began: float
    listed: int = 0
    not_listed: int = 0
    summary: tuple[int, AuditEntry] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class AuditBudget:
    """Lists at most `limit` events of each token in an hour, and counts the further ones in one entry of `action`.

    With `sparse` the entry is written only when the count reaches a power of two, and says "at least": a loop of
    events must not become a loop of transactions.
    """

    def __init__(
        self, action: str, limit: int, clock: Callable[[], float] = time.monotonic, *, sparse: bool = False
    ) -> None:
        self._action = action
        self._limit = limit
        self._clock = clock
        self._sparse = sparse
        self._windows: dict[str, _Window] = {}

    async def write(self, digest: str, entry: AuditEntry, write: Write) -> None:
        """Write the entry of an event, or count the event. Raises what `write` raises."""
        window = self._window(digest)
        if window.listed < self._limit:
            window.listed += 1
            await write(entry, None)
            return
        async with window.lock:
            count = window.not_listed + 1
            if not self._sparse or count.bit_count() == 1:
                outcome = f"{'at least ' if self._sparse else ''}{count} more not listed"
                summary = AuditEntry(who=entry.who, action=self._action, outcome=outcome)
                window.summary = await write(summary, window.summary), summary
            window.not_listed = count

    def _window(self, digest: str) -> _Window:
        now = self._clock()
        self._windows = {key: each for key, each in self._windows.items() if now - each.began < _HOUR}
        return self._windows.setdefault(digest, _Window(now))
