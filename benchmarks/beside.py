"""Requests at a constant rate, without and beside other work that goes on meanwhile, and what each did to the other."""

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
    """The load, to the integration `bench`. Raises MeasureFailed."""
    return pace.run(running.job.port, running.peer.path("hook"), running.peer.fields)


def latencies(paced: Paced) -> Sample:
    """What requests felt of a round."""
    return {
        P50: paced.percentile(0.5),
        P99: paced.percentile(0.99),
        P999: paced.percentile(0.999),
        _LONGEST: paced.percentile(1),
        _FAILED: paced.statuses.total() - paced.statuses["200"],
    }


def latency_lines(rounds: Rounds, reaches: Mapping[str, Reach] | None = None) -> list[Line]:
    """Of latencies the medians of the rounds; of what must not happen once, the most.

    `reaches` are what p99.9 must reach, by side.
    """
    found = {side: medians(samples) for side, samples in rounds.items()}
    return [
        *(
            line(figure, values[figure], (reaches or {}).get(side) if figure is P999 else None, of=side)
            for figure in (P50, P99, P999)
            for side, values in found.items()
        ),
        *(line(_LONGEST, max(sample[_LONGEST] for sample in samples), of=side) for side, samples in rounds.items()),
        line(_FAILED, sum(sample[_FAILED] for samples in rounds.values() for sample in samples), at_most(0)),
    ]


def line(figure: Figure, value: float, reach: Reach | None = None, *, of: str = "") -> Line:
    """A line of Sidekey alone; `of` says when."""
    label = f"{figure.label}, {of}" if of else figure.label
    return Line(label, figure, {"sidekey": value}, reach)


def outcome(lines: Sequence[Line], rounds: Rounds) -> Outcome:
    """The outcome of Sidekey alone, of which `rounds` are the samples."""
    return Outcome(lines, rounds={f"sidekey, {side}": samples for side, samples in rounds.items()})


@contextmanager
def repeating(act: Callable[[], T]) -> Iterator[list[T]]:
    """Act again and again, at least once, while the block runs; what came of it, complete once the block has ended.

    Raises MeasureFailed, at the end of the block, where an act did.
    """
    found: list[T] = []
    done = threading.Event()

    def go_on() -> None:
        found.append(act())
        while not done.is_set():
            found.append(act())

    with ThreadPoolExecutor(1) as pool:
        work: Future[None] = pool.submit(go_on)
        try:
            yield found
        finally:
            done.set()
    work.result()
