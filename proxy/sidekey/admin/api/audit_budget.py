"""Bound the audit entries that one token causes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sidekey.store.audit import AuditEntry

_HOUR: Final = 3600.0


@dataclass(slots=True)
class _Window:
    """The hour of one token that its first event began."""

    began: float
    events: int = 0


class AuditBudget:
    """Lists at most `limit` events of each token in an hour, and one further entry of `action` that says so."""

    def __init__(self, action: str, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._action = action
        self._limit = limit
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admit(self, digest: str, entry: AuditEntry) -> AuditEntry | None:
        """Count an event. Return the entry to write, or None if the event is not listed."""
        now = self._clock()
        self._windows = {key: each for key, each in self._windows.items() if now - each.began < _HOUR}
        window = self._windows.setdefault(digest, _Window(now))
        window.events += 1
        if window.events <= self._limit:
            return entry
        if window.events == self._limit + 1:
            return AuditEntry(who=entry.who, label=entry.label, action=self._action, outcome="more not listed")
        return None
