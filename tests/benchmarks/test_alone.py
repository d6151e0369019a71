"""Rows of a module: each build runs it by its own interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.arena import Arena
from benchmarks.figures import Figure, at_most
from benchmarks.peers import PURE
from benchmarks.rows.alone import Alone

VALUE = Figure("value", 0)


def test_builds_take_turns_and_a_failed_one_is_named(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is the median of the rounds; a module that cannot be imported fails with the reason."""
    monkeypatch.setattr("benchmarks.rows.alone._ROOT", tmp_path)
    counter = (
        "from pathlib import Path\ncount = Path('count')\nvalue = len(count.read_text()) if count.exists() else 0\n"
    )
    (tmp_path / "counting.py").write_text(
        f"{counter}def run():\n    count.write_text('x' * (value + 1))\n    return {{'value': value}}\n"
    )
    keys = {"value": (VALUE, at_most(1))}
    outcome = Alone("counting", "", "counting", keys, ("sidekey", PURE), rounds=3).run(arena)
    (line,) = outcome.lines
    assert (line.values, line.reach) == ({"sidekey": 2, PURE: 3}, at_most(1))
    failed = Alone("none", "", "nothing", keys).run(arena)
    assert "No module named 'nothing'" in failed.failures["sidekey"]
