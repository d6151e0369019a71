"""Rows of reloads, Sidekey only: duration, cost to requests in flight, and memory after many."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import beside
from benchmarks.arena import Arena, Running
from benchmarks.beside import line
from benchmarks.figures import Figure, Line, Outcome, Sample, at_most, medians
from benchmarks.pace import Pace
from benchmarks.peers.sidekey import Sidekey
from benchmarks.probe import CHECK, await_response
from benchmarks.reloads import Editor

_TENANTS = 9_999
_WITHOUT, _WITH = "without reloads", "with reloads"
_DURING = Figure("p99.9 ms during a reload", 3)
_RELOADS = Figure("reloads", 0)
_UNDER_LOAD = Figure("reloads under load", 0)
_MEDIAN = Figure("reload s, median", 3)
_SLOWEST = Figure("reload s, slowest", 3)
_CPU = Figure("CPU s a reload", 3)


@dataclass(frozen=True, slots=True)
class Reloads:
    """One integration of many in one file changes: with nothing else to do, and under a constant load.

    The load goes to the integration that changes.
    """

    name = "reload10k"
    pace: Pace
    tenants: int = _TENANTS
    edits: int = 10
    rounds: int = 3

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"one of {self.tenants + 1:,} integrations changed, {self.edits} times alone, then one reload after the "
            f"other under {self.pace.rate:,} requests/s to it, {self.pace.seconds:g} s over "
            f"{self.pace.connections} kept connections"
        )

    def run(self, arena: Arena) -> Outcome:
        """Start Sidekey and measure. Raises MeasureFailed."""
        with ExitStack() as stack:
            running = arena.start("sidekey", Sidekey(tenants=self.tenants), arena.upstreams["http"], stack)
            return self.measure(running, Editor(running), arena.settle)

    def measure(self, running: Running, editor: Editor, settle: float) -> Outcome:
        """Seconds of reloads, and latencies of the same load without and with them, in turn."""
        rounds: dict[str, list[Sample]] = {_WITHOUT: [], _WITH: []}
        # The first reload and the first load import modules and open upstream connections.
        editor.edit()
        beside.load(running, self.pace.brief())
        alone = self._alone(running, editor, settle)
        for _ in range(self.rounds):
            rounds[_WITHOUT].append(beside.latencies(beside.load(running, self.pace)))
            rounds[_WITH].append(self._load_with_reloads(running, editor))
        return beside.outcome([*_lines(alone), *_under_load(rounds)], {"alone": [alone], **rounds})

    def _alone(self, running: Running, editor: Editor, settle: float) -> Sample:
        cpu_before = running.program.cpu_seconds()
        seconds = [editor.edit().seconds for _ in range(self.edits)]
        # What a reload replaced is freed after it was logged.
        time.sleep(settle)
        used = running.program.cpu_seconds() - cpu_before
        return {_MEDIAN: statistics.median(seconds), _SLOWEST: max(seconds), _CPU: used / self.edits}

    def _load_with_reloads(self, running: Running, editor: Editor) -> Sample:
        began = time.perf_counter()
        with beside.repeating(editor.edit) as reloads:
            paced = beside.load(running, self.pace)
        seconds = [reload.seconds for reload in reloads]
        # Some requests came between two reloads. The slowest responses all count as those during a reload.
        share = sum(seconds) / (time.perf_counter() - began)
        return {
            **beside.latencies(paced),
            _DURING: paced.percentile(1 - 0.001 * min(1, share)),
            _RELOADS: len(reloads),
            _MEDIAN: statistics.median(seconds),
            _SLOWEST: max(seconds),
        }


def _lines(alone: Sample) -> list[Line]:
    reaches = {_SLOWEST: at_most(1), _CPU: at_most(1)}
    return [line(figure, value, reaches.get(figure)) for figure, value in alone.items()]


def _under_load(rounds: Mapping[str, Sequence[Sample]]) -> list[Line]:
    reloaded = rounds[_WITH]
    by_side = medians(reloaded)
    return [
        *beside.latency_lines(rounds),
        line(_DURING, by_side[_DURING], at_most(20)),
        line(_UNDER_LOAD, sum(sample[_RELOADS] for sample in reloaded)),
        line(_MEDIAN, by_side[_MEDIAN], of="under load"),
        line(_SLOWEST, max(sample[_SLOWEST] for sample in reloaded), of="under load"),
    ]


@dataclass(frozen=True, slots=True)
class Memory:
    """The same change again and again; after each the integration is used, so that all of it is built again."""

    name = "reloads100"
    tenants: int = _TENANTS
    few: int = 10
    many: int = 100

    @property
    def title(self) -> str:
        """Title in the table."""
        return (
            f"memory after {self.few} and after {self.many} reloads of {self.tenants + 1:,} integrations, one changed"
        )

    def run(self, arena: Arena) -> Outcome:
        """Start Sidekey and measure. Raises MeasureFailed."""
        with ExitStack() as stack:
            running = arena.start("sidekey", Sidekey(tenants=self.tenants), arena.upstreams["http"], stack)
            return self.measure(running, Editor(running), arena.settle)

    def measure(self, running: Running, editor: Editor, settle: float) -> Outcome:
        """Resident memory without work: before the first reload, after a few, and after many."""
        few = _resident_after(self.few, running, editor, settle)
        many = _resident_after(self.many - self.few, running, editor, settle)
        megabytes = {"before any reload": running.idle_bytes, f"after {self.few}": few, f"after {self.many}": many}
        figures = [(Figure(f"RSS MB {when}", 1), count / 1e6) for when, count in megabytes.items()]
        share = Figure(f"RSS after {self.many} / after {self.few}", 3)
        return Outcome(
            [*(line(figure, value) for figure, value in figures), line(share, many / few, at_most(1.05))],
            rounds={"sidekey": [dict(figures)]},
        )


def _resident_after(count: int, running: Running, editor: Editor, settle: float) -> int:
    """Return the bytes after this many further reloads."""
    for _ in range(count):
        editor.edit()
        await_response(running.program, running.job.port, running.peer.path(CHECK), {})
    time.sleep(settle)
    return running.program.resident_bytes()


ROWS = (Reloads(Pace(1_000, 5)), Memory())
