"""Rows of signed requests, short: a real Sidekey that signs what nginx and an upstream of long bodies receive."""

from __future__ import annotations

from benchmarks.arena import Arena
from benchmarks.pace import Pace
from benchmarks.rows.signed import SignedBodies

ROW = SignedBodies(Pace(100, 0.4, connections=4), rate=50, size=1 << 20, rounds=1)


def test_others_are_measured_alone_and_beside_bodies_that_are_streamed_and_signed(arena: Arena) -> None:
    """All of them had responses, and bodies went meanwhile."""
    outcome = ROW.run(arena)
    assert outcome.failures == {}
    reaches = {line.label: str(line.reach) for line in outcome.lines if line.reach is not None}
    assert reaches == {
        "p99.9 ms more than alone, beside bodies that are signed": "sidekey at most 5",
        "failed requests": "sidekey at most 0",
    }
    values = {line.label: line.values["sidekey"] for line in outcome.lines}
    assert values["failed requests"] == 0
    assert values["bodies a second, beside bodies that are not signed"] > 0
    assert values["bodies a second, beside bodies that are signed"] > 0
