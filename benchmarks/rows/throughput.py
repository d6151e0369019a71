"""Rows of wrk against every peer: kept connections over http and https, one connection, a new one for each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.arena import Arena, contest
from benchmarks.figures import CPU, P50, RATE, Figure, Outcome, Reach, at_least, at_most, lines_of
from benchmarks.load import Load
from benchmarks.peers import PEERS


@dataclass(frozen=True, slots=True)
class Throughput:
    """One load, run against each peer in turn."""

    name: str
    title: str
    load: Load
    reaches: Mapping[Figure, Reach]
    side: str = "http"
    """Of the upstream."""
    rounds: int = field(default=5, kw_only=True)

    def run(self, arena: Arena) -> Outcome:
        """A line for each figure wrk and /proc give."""
        with contest(arena, PEERS, arena.upstreams[self.side]) as found:
            found.measure(self.rounds, lambda running: running.load(self.load))
        return Outcome(lines_of(found.medians(), self.reaches), found.failures, found.rounds)


ROWS = (
    Throughput(
        "http32",
        "requests to an http upstream, 32 kept connections",
        Load(32),
        {RATE: at_least(1.5, over="envoy"), CPU: at_least(0.7, "nginx", over="sidekey")},
    ),
    Throughput(
        "http256",
        "requests to an http upstream, 256 kept connections",
        Load(256),
        {RATE: at_least(2, over="envoy")},
    ),
    Throughput(
        "https32",
        "requests to an https upstream, 32 kept connections on both sides",
        Load(32),
        {RATE: at_least(1.4, over="envoy")},
        "https",
    ),
    Throughput(
        "mtls32",
        "requests to an https upstream that demands a client certificate, 32 kept connections on both sides",
        Load(32),
        {RATE: at_least(1.3, over="envoy")},
        "mtls",
    ),
    Throughput("conns1", "requests over one connection", Load(1), {P50: at_most(1, over="envoy")}, rounds=3),
    Throughput(
        "newconn",
        "a new caller connection for each request, 32 at a time",
        Load(32, keep=False),
        {CPU: at_most(1, over="envoy")},
        rounds=3,
    ),
)
