"""Row of stored integrations, Sidekey only: what a store costs when empty and when full, alone and beside requests."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.arena import Arena, Running, one_by_one
from benchmarks.figures import (
    P50,
    P99,
    P999,
    RESIDENT_IDLE,
    START,
    Figure,
    Line,
    Outcome,
    Reach,
    Sample,
    at_most,
    medians,
)
from benchmarks.pace import Pace, Paced
from benchmarks.peers.base import Peer
from benchmarks.peers.sidekey import Sidekey, base_of
from benchmarks.rows.idle import idle_sample
from benchmarks.stored import Operator, fill

_PAGE = 50
_SEARCHES = {"list": "", "search": "?q=T99", "search without a match": "?q=nothing"}
"""What is asked for, and how: the first page, and searches that look at most and at all of the integrations."""

_PLAIN, _EMPTY, _FULL = "sidekey, no store", "sidekey, empty store", "sidekey, full store"
_WITHOUT, _WITH = "without changes", "beside changes and lists"

_LONGEST = Figure("longest ms", 1)
_FAILED = Figure("failed requests", 0)
_CHANGES = Figure("changes", 0)
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
        """What is measured, in words."""
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
        self._load(running, self.pace.brief())
        operator.change()
        for query in _SEARCHES.values():
            operator.page(query)
        alone = self._alone(running, operator)
        rounds: dict[str, list[Sample]] = {_WITHOUT: [], _WITH: []}
        for _ in range(self.rounds):
            rounds[_WITHOUT].append(_latencies(self._load(running, self.pace)))
            rounds[_WITH].append(self._beside_changes(running, operator))
        return Outcome([*_alone(alone), *_under_load(rounds)], rounds={"sidekey, alone": [alone], **_subjects(rounds)})

    def _load(self, running: Running, pace: Pace) -> Paced:
        return pace.run(running.job.port, running.peer.path("hook"), running.peer.fields)

    def _alone(self, running: Running, operator: Operator) -> Sample:
        before = running.program.cpu_seconds()
        seconds = [operator.change() for _ in range(self.changes)]
        # What a change replaced is freed after its response.
        time.sleep(0.3)
        used = running.program.cpu_seconds() - before
        found = {_CHANGE: statistics.median(seconds), _SLOWEST: max(seconds), _CHANGE_CPU: used / self.changes}
        for name, query in _SEARCHES.items():
            pages = [operator.page(query) for _ in range(self.changes)]
            found[Figure(f"{name} ms, median", 1)] = statistics.median(pages) * 1e3
            found[_slowest(name)] = max(pages) * 1e3
        return found

    def _beside_changes(self, running: Running, operator: Operator) -> Sample:
        with operating(operator) as changes:
            paced = self._load(running, self.pace)
        return {
            **_latencies(paced),
            _CHANGES: len(changes),
            _CHANGE: statistics.median(changes),
            _SLOWEST: max(changes),
        }


def _slowest(name: str) -> Figure:
    return Figure(f"{name} ms, slowest", 1)


@contextmanager
def operating(operator: Operator) -> Iterator[list[float]]:
    """Change and list while the block runs; the seconds of the changes, at least one, complete once it has ended.

    Raises MeasureFailed, at the end of the block, where one did.
    """
    found: list[float] = []
    done = threading.Event()

    def operate() -> None:
        while not found or not done.is_set():
            found.append(operator.change())
            for query in _SEARCHES.values():
                operator.page(query)

    with ThreadPoolExecutor(1) as pool:
        work: Future[None] = pool.submit(operate)
        try:
            yield found
        finally:
            done.set()
    work.result()


def _latencies(paced: Paced) -> Sample:
    return {
        P50: paced.percentile(0.5),
        P99: paced.percentile(0.99),
        P999: paced.percentile(0.999),
        _LONGEST: paced.percentile(1),
        _FAILED: paced.statuses.total() - paced.statuses["200"],
    }


def starting(found: Mapping[str, Sample]) -> list[Line]:
    """What starts cost, from the medians of each subject."""
    if not found.keys() >= {_PLAIN, _EMPTY, _FULL}:
        return []
    plain, empty, full = found[_PLAIN], found[_EMPTY], found[_FULL]
    return [
        _line("start to first response s", 3, full[START], at_most(2)),
        _line("start, s more with an empty store", 3, empty[START] - plain[START]),
        _line("RSS idle, MB more with an empty store", 1, empty[RESIDENT_IDLE] - plain[RESIDENT_IDLE], at_most(6)),
        _line("RSS idle, MB more than an empty store", 1, full[RESIDENT_IDLE] - empty[RESIDENT_IDLE]),
    ]


def _alone(alone: Sample) -> list[Line]:
    reaches = {_SLOWEST: at_most(1)} | {_slowest(name): at_most(100) for name in _SEARCHES}
    return [Line(figure.label, figure, {"sidekey": value}, reaches.get(figure)) for figure, value in alone.items()]


def _under_load(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    """Of latencies the medians of the rounds; of what must not happen once, the most."""
    found = {side: medians(samples) for side, samples in rounds.items()}
    beside = rounds[_WITH]
    return [
        *(
            _line(
                f"{figure.label}, {side}",
                figure.decimals,
                values[figure],
                at_most(20) if figure is P999 and side == _WITH else None,
            )
            for figure in (P50, P99, P999)
            for side, values in found.items()
        ),
        *(
            _line(f"{_LONGEST.label}, {side}", 1, max(sample[_LONGEST] for sample in samples))
            for side, samples in rounds.items()
        ),
        _line(_FAILED.label, 0, sum(each[_FAILED] for samples in rounds.values() for each in samples), at_most(0)),
        _line("changes under load", 0, sum(sample[_CHANGES] for sample in beside)),
        _line(f"{_CHANGE.label}, under load", 3, found[_WITH][_CHANGE]),
        _line(f"{_SLOWEST.label}, under load", 3, max(sample[_SLOWEST] for sample in beside), at_most(1)),
    ]


def _subjects(rounds: Mapping[str, Sequence[Sample]]) -> dict[str, Sequence[Sample]]:
    return {f"sidekey, {side}": samples for side, samples in rounds.items()}


def _line(label: str, decimals: int, value: float, reach: Reach | None = None) -> Line:
    return Line(label, Figure(label, decimals), {"sidekey": value}, reach)


ROWS = (Stored(Pace(1_000, 5)),)
