"""The figures in README.md come from results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.digest import BEGIN, END, digest, publish

ROOT = Path(benchmarks.__file__).parent.parent


def results(**rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run with these rows writes."""
    return {
        "machine": {"processor": "AMD EPYC", "python": "3.13.5"},
        "versions": {"sidekey": "0.1.0 compiled", "sidekey pure": "0.1.0 pure", "envoy": "1.40.0"},
        "rows": {name: {"lines": lines} for name, lines in rows.items()},
    }


def line(
    figure: str, values: dict[str, float], reach: str | None, measured: float | None, verdict: str
) -> dict[str, Any]:
    """A line of a row."""
    return {"figure": figure, "values": values, "reach": reach, "measured": measured, "verdict": verdict}


def test_the_figures_of_the_readme_are_those_of_the_last_whole_run() -> None:
    """They are never copied by hand."""
    readme = (ROOT / "README.md").read_text()
    assert publish(readme, json.loads((ROOT / "benchmarks/results.json").read_text())) == readme


def test_a_figure_shows_each_build_and_peer_and_a_reach_that_was_missed() -> None:
    """A peer that failed has an empty cell; rows that were not measured are left out."""
    figure = line(
        "requests/s", {"sidekey": 50_000.4, "sidekey pure": 40_000}, "sidekey / envoy at least 1.8", None, "-"
    )
    idle = line("RSS idle MB", {"sidekey": 70.26, "envoy": 67.0}, "sidekey / envoy at most 1", 1.0487, "not reached")
    written = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in digest(results(http32=[figure], idle=[idle])).splitlines()
        if row.startswith("| ")
    ]
    assert written == [
        ["figure", "Sidekey", "Sidekey, pure", "Envoy", "reach", "measured"],
        ["requests/s, http upstream, 32 connections", "50,000", "40,000", "", "sidekey / envoy at least 1.8", "-"],
        ["resident memory, idle, MB", "70.3", "", "67", "sidekey / envoy at most 1", "1.05 not reached"],
        ["figure", "Sidekey alone", "reach", "measured"],
    ]


def test_only_what_is_between_the_marks_is_replaced() -> None:
    """A README without them is an error."""
    text = publish(f"before\n{BEGIN}\nold\n{END}\nafter\n", results())
    assert text.startswith(f"before\n{BEGIN}\n\n1 KB POST")
    assert "Python 3.13.5; sidekey 0.1.0 compiled, sidekey pure 0.1.0 pure, envoy 1.40.0." in text
    assert text.endswith(f"\n\n{END}\nafter\n")
    with pytest.raises(ValueError, match="must contain"):
        publish("before", results())
