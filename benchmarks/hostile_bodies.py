"""What one hostile body costs that takes a token (row `worstbody`): see `benchmarks.hostile`."""

from __future__ import annotations

from benchmarks import hostile


def run() -> dict[str, float]:
    """CPU ms of the worst body."""
    return hostile.run(("body",))
