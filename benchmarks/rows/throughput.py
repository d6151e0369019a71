"""Rows of one load against the peers in turn: as fast as they respond, and at the same pace for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.arena import Arena, side_by_side
from benchmarks.figures import CPU, P50, RATE, Figure, Outcome, Reach, at_least, at_most, lines_of
from benchmarks.load import Load, Wrk
from benchmarks.pace import Pace
from benchmarks.peers import FORWARDING, PURE, peers

_COMPARED = ("sidekey", "envoy", "nginx")
_PACE = Pace(7_000, 2)
_PACED_ROUNDS = 3
"""Fewer than of the others: at one pace for all, the processor time of two rounds differs by some hundredths."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One load, run against each peer in turn."""

    name: str
    title: str
    load: Load
    reaches: Mapping[Figure, Reach] = field(default_factory=dict)
    side: str = "http"
    """Of the upstream."""
    columns: tuple[str, ...] = FORWARDING
    rounds: int = field(default=5, kw_only=True)

    def run(self, arena: Arena) -> Outcome:
        """A line for each figure that the load and /proc give."""
        with side_by_side(arena, peers(*self.columns), arena.upstreams[self.side]) as found:
            found.load(self.rounds, self.load)
        return Outcome(lines_of(found.medians(), self.reaches), found.failures, found.rounds)


ROWS = (
    Throughput(
        "http32",
        "requests to an http upstream, 32 kept connections",
        Wrk(32),
        {RATE: at_least(1.8, over="envoy"), CPU: at_least(0.82, "nginx", over="sidekey")},
    ),
    Throughput(
        "http256",
        "requests to an http upstream, 256 kept connections",
        Wrk(256),
        {RATE: at_least(2.2, over="envoy")},
        columns=("sidekey", PURE, "envoy", "nginx"),
    ),
    Throughput(
        "https32",
        "requests to an https upstream, 32 kept connections on both sides",
        Wrk(32),
        {RATE: at_least(1.5, over="envoy")},
        "https",
        ("sidekey", PURE, "envoy", "nginx"),
    ),
    Throughput(
        "pace7000",
        f"{_PACE.rate:,} requests/s, the same for each peer, over http, {_PACE.connections} kept connections",
        _PACE,
        rounds=_PACED_ROUNDS,
    ),
    Throughput(
        "pace7000tls",
        f"{_PACE.rate:,} requests/s, the same for each peer, over https, {_PACE.connections} kept connections",
        _PACE,
        side="https",
        rounds=_PACED_ROUNDS,
    ),
    Throughput(
        "mtls32",
        "requests to an https upstream that demands a client certificate, 32 kept connections on both sides",
        Wrk(32),
        {RATE: at_least(1.3, over="envoy")},
        "mtls",
        _COMPARED,
        rounds=3,
    ),
    Throughput(
        "conns1",
        "requests over one connection",
        Wrk(1),
        {P50: at_most(1, over="envoy")},
        columns=_COMPARED,
        rounds=3,
    ),
    Throughput(
        "newconn",
        "a new caller connection for each request, 32 at a time",
        Wrk(32, keep=False),
        {CPU: at_most(1, over="envoy")},
        columns=_COMPARED,
        rounds=3,
    ),
)
