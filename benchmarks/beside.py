"""Requests at a constant rate, without and beside other work, and the effect of each on the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from benchmarks.arena import Running
from benchmarks.figures import P50, P99, P999, Figure, Line, Outcome, Reach, Sample, at_most, medians
from benchmarks.pace import Pace, Paced

_LONGEST = Figure("longest ms", 1)
_FAILED = Figure("failed requests", 0)

T = TypeVar("T")

Rounds = Mapping[str, Sequence[Sample]]
"""The samples of each side: of the load without other work, or beside it."""


def load(running: Running, pace: Pace) -> Paced:
    """Return the load to the integration `bench`. Raises MeasureFailed."""
    return pace.run(running.job.port, running.peer.path("hook"), running.peer.fields)


def latencies(paced: Paced) -> Sample:
    """Return the latency figures of a round."""
    return {
        P50: paced.percentile(0.5),
        P99: paced.percentile(0.99),
        P999: paced.percentile(0.999),
        _LONGEST: paced.percentile(1),
        _FAILED: paced.statuses.total() - paced.statuses["200"],
    }


def latency_lines(rounds: Rounds, reaches: Mapping[str, Reach] | None = None) -> list[Line]:
    """Return lines of latencies: medians of the rounds, or the maximum of what must never happen.

    `reaches` are what p99.9 must reach, by side.
    """
    by_side = {side: medians(samples) for side, samples in rounds.items()}
    return [
        *(
            line(figure, values[figure], (reaches or {}).get(side) if figure is P999 else None, of=side)
            for figure in (P50, P99, P999)
            for side, values in by_side.items()
        ),
        *(line(_LONGEST, max(sample[_LONGEST] for sample in samples), of=side) for side, samples in rounds.items()),
        line(_FAILED, sum(sample[_FAILED] for samples in rounds.values() for sample in samples), at_most(0)),
    ]


def line(figure: Figure, value: float, reach: Reach | None = None, *, of: str = "") -> Line:
    """Return a line of Sidekey alone. `of` names the side."""
    label = f"{figure.label}, {of}" if of else figure.label
    return Line(label, figure, {"sidekey": value}, reach)


def outcome(lines: Sequence[Line], rounds: Rounds) -> Outcome:
    """Return the outcome of Sidekey alone, with `rounds` as samples."""
    return Outcome(lines, rounds={f"sidekey, {side}": samples for side, samples in rounds.items()})


@contextmanager
def repeating(act: Callable[[], T]) -> Iterator[list[T]]:
    """Repeat an act, at least once, while the block runs. The list is complete when the block has ended.

    Raises MeasureFailed, at the end of the block, where an act did.
    """
    results: list[T] = []
    stop = threading.Event()

    def go_on() -> None:
        results.append(act())
        while not stop.is_set():
            results.append(act())

    with ThreadPoolExecutor(1) as pool:
        work: Future[None] = pool.submit(go_on)
        try:
            yield results
        finally:
            stop.set()
    work.result()
