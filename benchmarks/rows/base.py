"""What a row of the table is."""

from __future__ import annotations

from typing import Protocol

from benchmarks.arena import Arena
from benchmarks.figures import Outcome


class Row(Protocol):
    """One thing that is measured, chosen by its name."""

    @property
    def name(self) -> str:
        """How ROWS= names it."""
        ...

    @property
    def title(self) -> str:
        """What is measured, in words."""
        ...

    def run(self, arena: Arena) -> Outcome:
        """Measure. Raises MeasureFailed where nothing could be measured."""
        ...
