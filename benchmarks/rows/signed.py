"""Rows of signed requests, Sidekey only: no other proxy signs what it forwards."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import beside
from benchmarks.arena import Arena, Running, side_by_side
from benchmarks.beside import line
from benchmarks.bulk import BulkUpstream, upload
from benchmarks.figures import P999, Figure, Outcome, Sample, at_most, lines_of, medians
from benchmarks.load import Wrk
from benchmarks.pace import Pace
from benchmarks.peers import PURE
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey

_OTHERS = "/i/t0/hook"
"""Of the integration whose requests are not signed."""

_ALONE, _STREAMED, _SIGNED = "alone", "beside bodies that are not signed", "beside bodies that are signed"
_MORE = Figure("p99.9 ms more than alone, beside bodies that are signed", 3)
_BODIES = Figure("bodies a second", 1)
_BODY = Figure("body ms, median", 1)


@dataclass(frozen=True, slots=True)
class Signed:
    """The load of `http32`, each request signed."""

    load: Wrk
    rounds: int = 5

    name = "signed32"
    title = "requests that are signed (HMAC, Standard Webhooks) to an http upstream, 32 kept connections"

    def run(self, arena: Arena) -> Outcome:
        """A line for each figure, of both builds."""
        subjects: dict[str, Peer] = {
            "sidekey": Sidekey(signed=True),
            PURE: Sidekey(interpreter=sys.executable, signed=True),
        }
        with side_by_side(arena, subjects, arena.upstreams["http"]) as comparison:
            comparison.load(self.rounds, self.load)
        return Outcome(lines_of(comparison.medians()), comparison.failures, comparison.rounds)


class Uploads:
    """Bodies of `size` bytes, `rate` a second, one after the other. `next` waits until the next one is due."""

    def __init__(self, port: int, path: str, zeros: Path, size: int, rate: int) -> None:
        self._port = port
        self._path = path
        self._zeros = zeros
        self._size = size
        self._pause = 1 / rate
        self._due = time.perf_counter()

    def next(self) -> float:
        """Return the seconds of the next one. Raises MeasureFailed."""
        now = time.perf_counter()
        time.sleep(max(0.0, self._due - now))
        # One that took longer than the pause is not made up for: that would be a burst.
        self._due = max(self._due, now) + self._pause
        return upload(self._port, self._path, self._size, self._zeros)


@dataclass(frozen=True, slots=True)
class SignedBodies:
    """Effect of long bodies on unsigned requests: of none, of streamed ones, and of buffered and signed ones.

    What streamed ones cost is what the machine needs to move so many bytes, load and upstream included.
    """

    pace: Pace
    rate: int = 20
    size: int = 8 << 20
    rounds: int = 3

    name = "signedbodies"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{self.pace.rate:,} requests/s that are not signed, {self.pace.seconds:g} s on {self.pace.connections} "
            f"connections, alone and beside {self.rate} bodies of {self.size >> 20} MiB a second, streamed or signed"
        )

    def run(self, arena: Arena) -> Outcome:
        """Latencies of each side, in turn. Raises MeasureFailed."""
        folder = arena.folder / self.name
        folder.mkdir()
        with BulkUpstream(folder) as bulk, ExitStack() as stack:
            running = arena.start("sidekey", Sidekey(signed=True, tenants=1), bulk.upstream, stack)
            return self.measure(running, bulk.zeros)

    def measure(self, running: Running, zeros: Path) -> Outcome:
        """The sides take turns, so that all see the same machine."""
        paths = {_ALONE: None, _STREAMED: "/i/t0/bulk", _SIGNED: "/i/bench/bulk"}
        self.pace.brief().run(running.job.port, _OTHERS)
        rounds: dict[str, list[Sample]] = {side: [] for side in paths}
        for _ in range(self.rounds):
            for side, path in paths.items():
                rounds[side].append(self._round(running, path, zeros))
        by_side = {side: medians(samples) for side, samples in rounds.items()}
        more = by_side[_SIGNED][P999] - by_side[_ALONE][P999]
        lines = [
            *beside.latency_lines(rounds),
            line(_MORE, more, at_most(5)),
            *(
                line(figure, by_side[side][figure], of=side)
                for figure in (_BODIES, _BODY)
                for side in (_STREAMED, _SIGNED)
            ),
        ]
        return beside.outcome(lines, rounds)

    def _round(self, running: Running, path: str | None, zeros: Path) -> Sample:
        port = running.job.port
        if path is None:
            return beside.latencies(self.pace.run(port, _OTHERS))
        with beside.repeating(Uploads(port, path, zeros, self.size, self.rate).next) as seconds:
            paced = self.pace.run(port, _OTHERS)
        return {
            **beside.latencies(paced),
            _BODIES: len(seconds) / paced.seconds,
            _BODY: statistics.median(seconds) * 1e3,
        }


ROWS = (Signed(Wrk(32)), SignedBodies(Pace(1_000, 4)))
