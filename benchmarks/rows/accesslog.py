"""Row: cost of an access log line for each request, for Sidekey and Envoy."""

from __future__ import annotations

from benchmarks.arena import Arena, side_by_side
from benchmarks.figures import CPU, RATE, Figure, Line, Outcome, at_least
from benchmarks.load import Wrk
from benchmarks.peers.base import Peer
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.sidekey import Sidekey

_MODES = ("off", "errors", "all")
_SHARE = Figure("CPU with off / with all", 2)
_ROUNDS = 3


class AccessLog:
    """32 kept connections; the lines go to a file."""

    name = "accesslog"
    title = "one access line for each request (all) against none (off), 32 kept connections"

    def run(self, arena: Arena) -> Outcome:
        """Measure rate and CPU in each mode, and the share that the same CPU does with `all`."""
        subjects: dict[str, Peer] = {f"sidekey, {mode}": Sidekey(access=mode) for mode in _MODES}
        subjects |= {"envoy, off": Envoy(), "envoy, all": Envoy(logged=True)}
        with side_by_side(arena, subjects, arena.upstreams["http"]) as comparison:
            comparison.load(_ROUNDS, Wrk(32))
        medians = comparison.medians()

        def line(figure: Figure, mode: str) -> Line:
            values = {
                peer: medians[f"{peer}, {mode}"][figure]
                for peer in ("sidekey", "envoy")
                if f"{peer}, {mode}" in medians
            }
            return Line(f"{figure.label}, {mode}", figure, values)

        off, everything = line(CPU, "off").values, line(CPU, "all").values
        share = {peer: off[peer] / everything[peer] for peer in everything if peer in off}
        lines = [line(figure, mode) for figure in (RATE, CPU) for mode in _MODES]
        lines.append(Line(_SHARE.label, _SHARE, share, at_least(0.8)))
        return Outcome(lines, comparison.failures, comparison.rounds)
