"""Row of two processes with one store, Sidekey only: how soon one process uses an edit through the other."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection

from benchmarks import beside
from benchmarks.arena import Arena, Running
from benchmarks.beside import line
from benchmarks.figures import P99, P999, START, Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.pace import Pace, Paced
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.processes import MeasureFailed
from benchmarks.stored import Operator, fill

_QUIET, _EDITED = "without edits", "beside edits"
_LATER = Figure("s from the response to use in the other process, median", 3)
_LATEST = Figure("s from the response to use in the other process, slowest", 3)
_EDITS = Figure("edits", 0)
_PAUSE = 0.3
"""Seconds between two edits: both processes have one core, which edits without a pause would occupy."""

_PATIENCE = 30.0
"""Seconds after which an edit is no longer expected to be in use."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Edits of one stored integration through one process, and requests to another one through the other process."""

    pace: Pace
    count: int = 10_000
    rounds: int = 3

    name = "shared10k"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"two processes with one store of {self.count:,} integrations ({_kind()}); edits of one through one "
            f"process, and {self.pace.rate:,} requests/s to another one through the other, {self.pace.seconds:g} s on "
            f"{self.pace.connections} connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """Start both and measure. Raises MeasureFailed."""
        folder = arena.folder / self.name
        folder.mkdir()
        upstream = arena.upstreams["http"]
        database = os.environ.get("POSTGRES") or folder / "store.db"
        peer = Sidekey(store=fill(database, base_of(upstream), self.count, shared=True))
        with ExitStack() as stack:
            edited, other = (arena.start(name, peer, upstream, stack) for name in ("edited", "other"))
            with Operator(edited.job.admin_port) as operator:
                return self._measure(edited, other, _Edits(operator, other))

    def _measure(self, edited: Running, other: Running, edits: _Edits) -> Outcome:
        # The first of each imports modules and opens connections.
        edits.edit()
        _load(other, self.pace.brief())
        rounds: dict[str, list[Sample]] = {_QUIET: [], _EDITED: []}
        for _ in range(self.rounds):
            rounds[_QUIET].append(beside.latencies(_load(other, self.pace)))
            with beside.repeating(edits.edit) as seconds:
                paced = _load(other, self.pace)
            sample = {_EDITS: len(seconds), _LATER: statistics.median(seconds), _LATEST: max(seconds)}
            rounds[_EDITED].append({**beside.latencies(paced), **sample})
        starts = max(edited.start_seconds, other.start_seconds)
        return beside.outcome([line(START, starts, at_most(10)), *_lines(rounds)], rounds)


class _Edits:
    """Edits `bench` through one process, and waits until the other one follows it."""

    def __init__(self, operator: Operator, other: Running) -> None:
        self._operator = operator
        self._other = other
        self._allowed = True

    def edit(self) -> float:
        """Forbid POST, or allow it again; return the seconds from the response until the other process does so."""
        time.sleep(_PAUSE)
        self._allowed = not self._allowed
        self._operator.patch({"methods": None if self._allowed else ["GET"]})
        began = time.perf_counter()
        connection = HTTPConnection("127.0.0.1", self._other.job.port, timeout=_PATIENCE)
        try:
            while time.perf_counter() - began < _PATIENCE:
                connection.request("POST", self._other.peer.path("hook"), b"x", dict(self._other.peer.fields))
                response = connection.getresponse()
                response.read()
                if (response.status == 200) is self._allowed:
                    return time.perf_counter() - began
                time.sleep(0.005)
        finally:
            connection.close()
        raise MeasureFailed(f"an edit was not in use in another process after {_PATIENCE:g} s")


def _load(running: Running, pace: Pace) -> Paced:
    return pace.run(running.job.port, "/i/t0/hook", running.peer.fields)


def _kind() -> str:
    return "PostgreSQL" if os.environ.get("POSTGRES") else "SQLite"


def _lines(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    by_side = {side: medians(samples) for side, samples in rounds.items()}
    edited = rounds[_EDITED]
    worse = {figure: by_side[_EDITED][figure] - by_side[_QUIET][figure] for figure in (P99, P999)}
    return [
        *beside.latency_lines(rounds),
        *(line(Figure(f"{figure.label} more beside edits", 3), value, at_most(20)) for figure, value in worse.items()),
        line(_EDITS, sum(sample[_EDITS] for sample in edited)),
        line(_LATER, by_side[_EDITED][_LATER]),
        line(_LATEST, max(sample[_LATEST] for sample in edited), at_most(2)),
    ]


ROWS = (Shared(Pace(500, 6)),)
