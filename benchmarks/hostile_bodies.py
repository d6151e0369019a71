"""Cost of the worst hostile body with a token (row `worstbody`): see `benchmarks.hostile`."""

from __future__ import annotations

from benchmarks import hostile


def run() -> dict[str, float]:
    """Return the CPU ms of the worst body."""
    return hostile.run(("body",))
