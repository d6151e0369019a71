"""Row: a config of 10,000 integrations: load time, memory, and the hot path compared with one integration."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.arena import Arena, one_by_one, side_by_side
from benchmarks.figures import CPU, RATE, RESIDENT_IDLE, START, Figure, Line, Outcome, Reach, at_least, at_most
from benchmarks.load import Load, Spread, Wrk
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey
from benchmarks.rows.idle import idle_sample

_TENANTS = 9_999
_STARTS = 3
_ROUNDS = 5
_ONE, _MANY, _SPREAD = "sidekey, one", "sidekey, 10,000", "sidekey, spread over 10,000"
_SUBJECTS: dict[str, Peer] = {
    _ONE: Sidekey(),
    _MANY: Sidekey(tenants=_TENANTS),
    _SPREAD: Sidekey(tenants=_TENANTS),
}
_LOADS: dict[str, Load] = {
    _ONE: Wrk(32),
    _MANY: Wrk(32),
    _SPREAD: Wrk(32, spread=Spread(_TENANTS, "/i/t", "/hook")),
}

_LOADING = Figure("load, s more than one", 2)
_MEMORY = Figure("RSS idle, MB more than one", 1)
_SHARE = Figure("CPU with one / with 10,000", 3)
Medians = Mapping[str, Mapping[Figure, float]]


class Integrations:
    """Sidekey only: `basic` integrations, each with an endpoint prefix of its own and its secret in a file."""

    name = "integrations10k"
    title = "10,000 integrations against one, 32 kept connections to one of them, or spread over all"

    def run(self, arena: Arena) -> Outcome:
        """Measure load and memory from starts, and the hot path with wrk."""
        upstream = arena.upstreams["http"]
        starting = {subject: _SUBJECTS[subject] for subject in (_ONE, _MANY)}
        starts = one_by_one(arena, starting, upstream, _STARTS, idle_sample)
        with side_by_side(arena, _SUBJECTS, upstream) as hot:
            hot.load(_ROUNDS, _LOADS)
        lines = [*_differences(starts.medians()), *_hot_path(hot.medians())]
        return Outcome(lines, starts.failures | hot.failures, hot.rounds)


def _differences(medians: Medians) -> list[Line]:
    if _ONE not in medians or _MANY not in medians:
        return []
    pairs = ((_LOADING, START, at_most(3)), (_MEMORY, RESIDENT_IDLE, at_most(80)))
    return [_line(figure.label, figure, medians[_MANY][of] - medians[_ONE][of], reach) for figure, of, reach in pairs]


def _hot_path(medians: Medians) -> list[Line]:
    lines = [
        _line(f"{figure.label}, {subject.partition(', ')[2]}", figure, values[figure])
        for figure in (RATE, CPU)
        for subject, values in medians.items()
    ]
    if _ONE in medians and _MANY in medians:
        share = medians[_ONE][CPU] / medians[_MANY][CPU]
        lines.append(_line(_SHARE.label, _SHARE, share, at_least(0.95)))
    return lines


def _line(label: str, figure: Figure, value: float, reach: Reach | None = None) -> Line:
    return Line(label, figure, {"sidekey": value}, reach)
