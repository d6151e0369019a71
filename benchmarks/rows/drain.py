"""Row: requests that a SIGTERM fails, Sidekey only."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.arena import Arena
from benchmarks.figures import Figure, Line, Outcome, Reach, at_most
from benchmarks.peers.sidekey import Sidekey
from benchmarks.storm import ANSWERED, ENDED, RESET, Storm

_REQUESTS = Figure("requests", 0)
_RESET = Figure("requests reset", 0)
_ENDED = Figure("requests ended without a response", 0)
_OTHER = Figure("responses other than 200", 0)


@dataclass(frozen=True, slots=True)
class Drain:
    """Starts, loads and terminates a Sidekey, again and again."""

    signals: int = 15
    seconds: float = 0.4

    name = "drain"

    @property
    def title(self) -> str:
        """Title in the table."""
        return f"{self.signals} SIGTERMs under 2,000 requests/s, half of them on connections of their own"

    def run(self, arena: Arena) -> Outcome:
        """Count how the requests of all loads end."""
        ends: Counter[str] = Counter()
        for _ in range(self.signals):
            with ExitStack() as stack:
                running = arena.start("sidekey", Sidekey(), arena.upstreams["http"], stack)
                storm = Storm(running.job.port, running.peer.path("hook"))
                ends += asyncio.run(storm.run(running.program.terminate, self.seconds))
        others = sum(count for end, count in ends.items() if end.isdecimal())
        return Outcome(
            [
                _line(_REQUESTS, ends[ANSWERED]),
                _line(_RESET, ends[RESET], at_most(0)),
                _line(_ENDED, ends[ENDED]),
                _line(_OTHER, others, at_most(0)),
            ],
            rounds={"sidekey": [{Figure(end, 0): count for end, count in ends.items()}]},
        )


def _line(figure: Figure, value: float, reach: Reach | None = None) -> Line:
    return Line(figure.label, figure, {"sidekey": value}, reach)
