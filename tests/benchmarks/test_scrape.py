"""benchmarks/scrape.py: the row measures a real page."""

from __future__ import annotations

from benchmarks.scrape import run


def test_the_row_has_the_figures_of_a_scrape() -> None:
    """A page of that many integrations, a pause and the time it took, each in its unit."""
    measured = run(50)
    assert set(measured) == {"longest_pause_ms", "longest_pause_cpu_ms", "cpu_ms", "bytes"}
    assert measured["bytes"] > 50 * 1000
    assert measured["cpu_ms"] >= measured["longest_pause_cpu_ms"] > 0
