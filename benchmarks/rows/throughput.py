"""Rows of one load against the peers in turn: as fast as they respond, and at the same pace for all."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.arena import Arena, side_by_side
from benchmarks.figures import CPU, P50, Figure, Outcome, Reach, at_most, cpu_ratios, lines_of
from benchmarks.load import LARGE_BYTES, Load, Wrk
from benchmarks.pace import Pace
from benchmarks.peers import FORWARDING, PURE, peers
from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.sidekey import Sidekey

_COMPARED = ("sidekey", "envoy", "nginx")
_PACE = Pace(7_000, 2)
_PACED_ROUNDS = 3
"""Fewer than of the others: at one pace for all, the processor time of two rounds differs by some hundredths."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One load, run against each peer in turn. `ratios`: least CPU of a peer over Sidekey's, by column."""

    name: str
    title: str
    load: Load
    ratios: Mapping[str, float] = field(default_factory=dict)
    side: str = "http"
    """Of the upstream."""
    columns: tuple[str, ...] = FORWARDING
    reaches: Mapping[Figure, Reach] = field(default_factory=dict, kw_only=True)
    configured: Mapping[str, Peer] = field(default_factory=dict, kw_only=True)
    """Peers of this row's own configuration, by column; the others are as in most rows."""
    rounds: int = field(default=5, kw_only=True)

    def run(self, arena: Arena) -> Outcome:
        """A line for each figure that the load and /proc give."""
        with side_by_side(
            arena, peers(*self.columns) | dict(self.configured), arena.upstreams[self.side]
        ) as comparison:
            comparison.load(self.rounds, self.load)
        medians = comparison.medians()
        lines = [*lines_of(medians, self.reaches), *cpu_ratios(medians, self.ratios)]
        return Outcome(lines, comparison.failures, comparison.rounds, comparison.tls)


ROWS = (
    Throughput(
        "http32",
        "requests to an http upstream, 32 kept connections",
        Wrk(32),
        {"envoy": 1.8, "nginx": 0.82},
    ),
    Throughput(
        "http256",
        "requests to an http upstream, 256 kept connections",
        Wrk(256),
        {"envoy": 2.2},
        columns=("sidekey", PURE, "envoy", "nginx"),
    ),
    Throughput(
        "https32",
        "requests to an https upstream, 32 kept connections on both sides",
        Wrk(32),
        {"envoy": 1.5},
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
        {"envoy": 1.3},
        "mtls",
        _COMPARED,
        rounds=3,
    ),
    Throughput(
        "conns1",
        "requests over one connection",
        Wrk(1),
        columns=_COMPARED,
        reaches={P50: at_most(1, over="envoy")},
        rounds=3,
    ),
    Throughput(
        "newconn",
        "a new caller connection for each request, 32 at a time",
        Wrk(32, keep=False),
        columns=_COMPARED,
        reaches={CPU: at_most(1, over="envoy")},
        rounds=3,
    ),
    Throughput(
        "large32",
        "requests and responses of 100 KB to an http upstream, 32 kept connections",
        Wrk(32, body_bytes=LARGE_BYTES),
        side="http, large",
        configured={"nginx": Nginx(streaming=True)},
        rounds=3,
    ),
    Throughput(
        "callers32",
        "requests of a caller with a token, which is checked and removed (Envoy: by api_key_auth), "
        "to an http upstream, 32 kept connections",
        Wrk(32),
        columns=("sidekey", PURE, "envoy"),
        configured={
            "sidekey": Sidekey(callers=True),
            PURE: Sidekey(interpreter=sys.executable, callers=True),
            "envoy": Envoy(callers=True),
        },
        rounds=3,
    ),
    Throughput(
        "tls32",
        "requests of callers over TLS to an https upstream, 32 kept connections on both sides",
        Wrk(32, tls=True),
        side="https",
        columns=("sidekey", "envoy"),
        configured={"sidekey": Sidekey(only_tls=True), "envoy": Envoy(terminating=True)},
        rounds=3,
    ),
    Throughput(
        "newtls",
        "a new TLS connection with a resumed session for each request of a caller, to an https upstream, 32 at a time",
        Wrk(32, keep=False, tls=True),
        side="https",
        columns=("sidekey", "envoy"),
        configured={"sidekey": Sidekey(only_tls=True), "envoy": Envoy(terminating=True)},
        rounds=3,
    ),
)
