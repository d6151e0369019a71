"""Row of the console, Sidekey only: what its pages take, alone and beside requests, with a store that is full."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks import beside
from benchmarks.arena import Arena, Running
from benchmarks.beside import line
from benchmarks.console import Round, Visitor
from benchmarks.figures import Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.stored import fill

PAGES: Final[Mapping[str, str]] = {
    "list": "/",
    "filtered": "/?kind=basic&status=ok&tag=bench",
    "searched": "/?q=T99",
    "searched without a match": "/?q=nothing",
    "one with its form": "/integrations/bench",
    "form of a new one": "/add?kind=oauth2",
    "presets": "/presets",
    "form of a new preset": "/add/preset",
    "access": "/access",
    "activity": "/activity",
}
"""What is read. Of `list`, `filtered` and the searches each looks at more of the integrations than the one before."""

_BESIDE = "beside pages"
_MEMORY = Figure("RSS MB more after the first pages", 1)
_VISIT = Figure("first visit, KB compressed", 1)
_CPU = Figure("CPU ms a page", 1)
_READ = Figure("pages under load", 0)
_PAGE = Figure("page ms, median", 1)
_SLOWEST = Figure("page ms, slowest", 1)


@dataclass(frozen=True, slots=True)
class Console:
    """Somebody is logged in and reads pages: of an empty store, and of one with `count` integrations.

    Under load, which goes to one of these, they read `rate` pages a second.
    """

    pace: Pace
    count: int = 10_000
    rate: int = 10
    repeats: int = 5
    rounds: int = 2

    name = "console10k"

    @property
    def title(self) -> str:
        """What is measured, in words."""
        return (
            f"pages of the console with {self.count:,} stored integrations, alone and, {self.rate} a second, beside "
            f"{self.pace.rate:,} requests/s, {self.pace.seconds:g} s on {self.pace.connections} connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """The first pages of one that has an empty store; then all pages of a full one. Raises MeasureFailed."""
        folder = arena.folder / self.name
        folder.mkdir()
        upstream = arena.upstreams["http"]
        with ExitStack() as stack:
            store = fill(folder / "empty.db", base_of(upstream), 0)
            running = arena.start("sidekey, empty store", Sidekey(store=store), upstream, stack)
            first = self.first_pages(running, arena.settle)
        with ExitStack() as stack:
            store = fill(folder / "full.db", base_of(upstream), self.count)
            running = arena.start("sidekey, full store", Sidekey(store=store), upstream, stack)
            used = self.measure(running)
        lines = [line(_MEMORY, first[_MEMORY], at_most(6)), *used.lines]
        return Outcome(lines, rounds={"sidekey, first pages": [first], **used.rounds})

    def first_pages(self, running: Running, settle: float) -> Sample:
        """What the first page of each kind leaves behind in memory."""
        before = running.program.resident_bytes()
        with Visitor(running.job.admin_port) as visitor:
            visitor.log_in()
            for path in PAGES.values():
                visitor.page(path)
            time.sleep(settle)
            return {_MEMORY: (running.program.resident_bytes() - before) / 1e6}

    def measure(self, running: Running) -> Outcome:
        """Each page alone, then latencies of a load beside all of them in turn."""
        with Visitor(running.job.admin_port) as visitor:
            alone = self._alone(running, visitor)
            beside.load(running, self.pace.brief())
            rounds = {_BESIDE: [self._beside_pages(running, visitor) for _ in range(self.rounds)]}
        return beside.outcome([*_alone(alone), *_under_load(rounds)], {"alone": [alone], **rounds})

    def _alone(self, running: Running, visitor: Visitor) -> Sample:
        found = {_VISIT: visitor.log_in() / 1e3}
        for path in PAGES.values():
            visitor.page(path)
        before = running.program.cpu_seconds()
        for name, path in PAGES.items():
            seconds = [visitor.page(path) for _ in range(self.repeats)]
            found[Figure(f"{name} ms, median", 1)] = statistics.median(seconds) * 1e3
            found[_slowest(name)] = max(seconds) * 1e3
        used = running.program.cpu_seconds() - before
        return {**found, _CPU: used / (len(PAGES) * self.repeats) * 1e3}

    def _beside_pages(self, running: Running, visitor: Visitor) -> Sample:
        with beside.repeating(Round(visitor, tuple(PAGES.values()), self.rate).next) as pages:
            paced = beside.load(running, self.pace)
        return {
            **beside.latencies(paced),
            _READ: len(pages),
            _PAGE: statistics.median(pages) * 1e3,
            _SLOWEST: max(pages) * 1e3,
        }


def _slowest(name: str) -> Figure:
    return Figure(f"{name} ms, slowest", 1)


def _alone(alone: Sample) -> list[Line]:
    reaches = {_VISIT: at_most(60)} | {_slowest(name): at_most(100) for name in PAGES}
    return [line(figure, value, reaches.get(figure)) for figure, value in alone.items()]


def _under_load(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    read = rounds[_BESIDE]
    return [
        *beside.latency_lines(rounds, {_BESIDE: at_most(20)}),
        line(_READ, sum(sample[_READ] for sample in read)),
        line(_PAGE, medians(read)[_PAGE], of="under load"),
        line(_SLOWEST, max(sample[_SLOWEST] for sample in read), of="under load"),
    ]


ROWS = (Console(Pace(1_000, 4)),)
