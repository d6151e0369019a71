"""Row of stored integrations, Sidekey only: cost of an empty and a full store, alone and beside requests."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks import beside
from benchmarks.arena import Arena, Running, one_by_one
from benchmarks.beside import line
from benchmarks.figures import RESIDENT_IDLE, START, Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.pace import Pace
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.rows.idle import idle_sample
from benchmarks.stored import Operator, fill

_PAGE = 50
_SEARCHES = {"list": "", "search": "?q=T99", "search without a match": "?q=nothing"}
"""What is asked for, and how: the first page, and searches that look at most and at all of the integrations."""

_PLAIN, _EMPTY, _FULL = "sidekey, no store", "sidekey, empty store", "sidekey, full store"
_WITHOUT, _WITH = "without changes", "beside changes and lists"

_CHANGES = Figure("changes under load", 0)
_CHANGE = Figure("change s, median", 3)
_SLOWEST = Figure("change s, slowest", 3)
_CHANGE_CPU = Figure("CPU s a change", 3)


@dataclass(frozen=True, slots=True)
class Stored:
    """Stored `basic` integrations, each with a prefix of its own and its secret sealed in SQLite.

    Changes are of the integration that has the load, one after the other by the API, with a list and searches between.
    """

    pace: Pace
    count: int = 10_000
    starts: int = 3
    changes: int = 10
    rounds: int = 2

    name = "store10k"

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"{self.count:,} stored integrations (SQLite); changes of one, and lists, alone and beside "
            f"{self.pace.rate:,} requests/s to it, {self.pace.seconds:g} s on {self.pace.connections} connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """Starts with no store, an empty one and a full one; then the full one in use. Raises MeasureFailed."""
        folder = arena.folder / self.name
        folder.mkdir()
        upstream = arena.upstreams["http"]
        full = Sidekey(store=fill(folder / "full.db", base_of(upstream), self.count))
        empty = Sidekey(store=fill(folder / "empty.db", base_of(upstream), 0))
        subjects: dict[str, Peer] = {_PLAIN: Sidekey(), _EMPTY: empty, _FULL: full}
        starts = one_by_one(arena, subjects, upstream, self.starts, idle_sample)
        with ExitStack() as stack:
            running = arena.start(_FULL, full, upstream, stack)
            with Operator(running.job.admin_port) as operator:
                used = self.measure(running, operator)
        lines = [*starting(starts.medians()), *used.lines]
        return Outcome(lines, starts.failures, {**starts.rounds, **used.rounds})

    def measure(self, running: Running, operator: Operator) -> Outcome:
        """Changes and lists alone, then latencies of the same load without and beside them, in turn."""
        # The first of each imports modules and opens connections.
        beside.load(running, self.pace.brief())
        _change_and_list(operator)
        alone = self._alone(running, operator)
        rounds: dict[str, list[Sample]] = {_WITHOUT: [], _WITH: []}
        for _ in range(self.rounds):
            rounds[_WITHOUT].append(beside.latencies(beside.load(running, self.pace)))
            rounds[_WITH].append(self._beside_changes(running, operator))
        return beside.outcome([*_alone(alone), *_under_load(rounds)], {"alone": [alone], **rounds})

    def _alone(self, running: Running, operator: Operator) -> Sample:
        cpu_before = running.program.cpu_seconds()
        seconds = [operator.change() for _ in range(self.changes)]
        # What a change replaced is freed after its response.
        time.sleep(0.3)
        used = running.program.cpu_seconds() - cpu_before
        sample = {_CHANGE: statistics.median(seconds), _SLOWEST: max(seconds), _CHANGE_CPU: used / self.changes}
        for name, query in _SEARCHES.items():
            pages = [operator.page(query) for _ in range(self.changes)]
            sample[Figure(f"{name} ms, median", 1)] = statistics.median(pages) * 1e3
            sample[_slowest(name)] = max(pages) * 1e3
        return sample

    def _beside_changes(self, running: Running, operator: Operator) -> Sample:
        with beside.repeating(partial(_change_and_list, operator)) as changes:
            paced = beside.load(running, self.pace)
        return {
            **beside.latencies(paced),
            _CHANGES: len(changes),
            _CHANGE: statistics.median(changes),
            _SLOWEST: max(changes),
        }


def _slowest(name: str) -> Figure:
    return Figure(f"{name} ms, slowest", 1)


def _change_and_list(operator: Operator) -> float:
    """Change and list, and return the seconds of the change."""
    seconds = operator.change()
    for query in _SEARCHES.values():
        operator.page(query)
    return seconds


def starting(samples: Mapping[str, Sample]) -> list[Line]:
    """Return the lines of starts, from the medians of each subject."""
    if not samples.keys() >= {_PLAIN, _EMPTY, _FULL}:
        return []
    plain, empty, full = samples[_PLAIN], samples[_EMPTY], samples[_FULL]
    return [
        line(START, full[START], at_most(2)),
        line(Figure("start, s more with an empty store", 3), empty[START] - plain[START]),
        line(
            Figure("RSS idle, MB more with an empty store", 1),
            empty[RESIDENT_IDLE] - plain[RESIDENT_IDLE],
            at_most(6),
        ),
        line(Figure("RSS idle, MB more than an empty store", 1), full[RESIDENT_IDLE] - empty[RESIDENT_IDLE]),
    ]


def _alone(alone: Sample) -> list[Line]:
    reaches = {_SLOWEST: at_most(1)} | {_slowest(name): at_most(100) for name in _SEARCHES}
    return [line(figure, value, reaches.get(figure)) for figure, value in alone.items()]


def _under_load(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    changed = rounds[_WITH]
    return [
        *beside.latency_lines(rounds, {_WITH: at_most(20)}),
        line(_CHANGES, sum(sample[_CHANGES] for sample in changed)),
        line(_CHANGE, medians(changed)[_CHANGE], of="under load"),
        line(_SLOWEST, max(sample[_SLOWEST] for sample in changed), at_most(1), of="under load"),
    ]


ROWS = (Stored(Pace(1_000, 5)),)
