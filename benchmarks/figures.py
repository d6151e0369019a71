"""Figures, medians of rounds, lines of the table, and their limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity with its unit, and the number of decimals to print."""

    label: str
    decimals: int

    def format(self, value: float) -> str:
        """Format the value for the table."""
        return f"{value:,.{self.decimals}f}"


RATE = Figure("requests/s", 0)
CPU = Figure("CPU us a request", 1)
P50 = Figure("p50 ms", 3)
P99 = Figure("p99 ms", 3)
P999 = Figure("p99.9 ms", 3)
RESIDENT_IDLE = Figure("RSS idle MB", 1)
RESIDENT_LOADED = Figure("RSS loaded MB", 1)
PRIVATE_IDLE = Figure("private memory idle MB", 1)
START = Figure("start to first response s", 3)

Sample = Mapping[Figure, float]
"""What one round of one peer measured."""


def medians(rounds: Sequence[Sample]) -> dict[Figure, float]:
    """Return the median of each figure over the rounds."""
    return {figure: statistics.median(sample[figure] for sample in rounds) for figure in rounds[0]}


@dataclass(frozen=True, slots=True)
class Reach:
    """A limit of a line: `peer`'s value, divided by `over`'s if set, is at least or at most `limit`."""

    limit: float
    sense: str  # "at least" or "at most"
    peer: str = "sidekey"
    over: str | None = None

    def __str__(self) -> str:
        subject = self.peer if self.over is None else f"{self.peer} / {self.over}"
        return f"{subject} {self.sense} {self.limit:g}"

    def measured(self, values: Mapping[str, float]) -> float | None:
        """Return the value to compare with the limit, or None if a peer is missing."""
        value = values.get(self.peer)
        if value is None or self.over is None:
            return value
        other = values.get(self.over)
        return value / other if other else None

    def verdict(self, values: Mapping[str, float]) -> str:
        """Return `ok`, `not reached`, or `-` if a value is missing."""
        return self.judge(self.measured(values))

    def judge(self, measured: float | None) -> str:
        """Return `ok`, `not reached`, or `-` if nothing was measured."""
        if measured is None:
            return "-"
        good = measured >= self.limit if self.sense == "at least" else measured <= self.limit
        return "ok" if good else "not reached"


def at_least(limit: float, peer: str = "sidekey", *, over: str | None = None) -> Reach:
    """Build a lower bound."""
    return Reach(limit, "at least", peer, over)


def at_most(limit: float, peer: str = "sidekey", *, over: str | None = None) -> Reach:
    """Build an upper bound."""
    return Reach(limit, "at most", peer, over)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: a figure of a row by peer, with its limit. `values` is keyed by the peer's column."""

    label: str
    figure: Figure
    values: Mapping[str, float]
    reach: Reach | None = None

    def as_json(self) -> dict[str, Any]:
        """The line for results.json."""
        return {
            "figure": self.label,
            "values": dict(self.values),
            "reach": None if self.reach is None else asdict(self.reach),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a row. `failures` has subjects that could not be measured, `rounds` the samples.

    `tls` has TLS version and group to the upstream, of each subject that uses TLS.
    """

    lines: Sequence[Line]
    failures: Mapping[str, str] = field(default_factory=dict)
    rounds: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    tls: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The outcome for results.json."""
        return {
            "lines": [line.as_json() for line in self.lines],
            "failures": dict(self.failures),
            "tls": dict(self.tls),
            "rounds": {
                subject: [{figure.label: value for figure, value in sample.items()} for sample in samples]
                for subject, samples in self.rounds.items()
            },
        }


def lines_of(
    medians_by_column: Mapping[str, Mapping[Figure, float]], reaches: Mapping[Figure, Reach] | None = None
) -> list[Line]:
    """Build a line for each figure that any column measured, in the order of measurement."""
    figures = dict.fromkeys(figure for values in medians_by_column.values() for figure in values)
    return [
        Line(
            figure.label,
            figure,
            {column: values[figure] for column, values in medians_by_column.items() if figure in values},
            (reaches or {}).get(figure),
        )
        for figure in figures
    ]


def cpu_ratios(medians_by_column: Mapping[str, Mapping[Figure, float]], limits: Mapping[str, float]) -> list[Line]:
    """Build a line for each peer in `limits`: its CPU per request, divided by Sidekey's, is at least the limit.

    CPU per request is compared and not the rate, which the load and the upstream on the other core limit as well.
    """
    lines = []
    for peer, limit in limits.items():
        label = f"CPU of {peer} / CPU of sidekey"
        is_measured = peer in medians_by_column and "sidekey" in medians_by_column
        ratio = {peer: medians_by_column[peer][CPU] / medians_by_column["sidekey"][CPU]} if is_measured else {}
        lines.append(Line(label, Figure(label, 2), ratio, at_least(limit, peer)))
    return lines
