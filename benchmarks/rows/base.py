"""Base class of the rows of the table."""

from __future__ import annotations

from typing import Protocol

from benchmarks.arena import Arena
from benchmarks.figures import Outcome


class Row(Protocol):
    """A measurement, chosen by its name."""

    @property
    def name(self) -> str:
        """Name in ROWS=."""
        ...

    @property
    def title(self) -> str:
        """Title in the table."""
        ...

    def run(self, arena: Arena) -> Outcome:
        """Measure. Raises MeasureFailed if nothing could be measured."""
        ...
