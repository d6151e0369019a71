"""Rows that need no socket and no peer: a module's `run()`, called in a process of its own on the proxy's core."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.arena import Arena
from benchmarks.figures import Figure, Line, Outcome, Reach, at_most
from benchmarks.processes import MeasureFailed

_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Alone:
    """`module` has `run() -> dict[str, float]`; each of `keys` becomes a line."""

    name: str
    title: str
    module: str
    keys: Mapping[str, tuple[Figure, Reach | None]]

    def run(self, arena: Arena) -> Outcome:
        """The values as they come. Raises MeasureFailed where the module is missing or fails."""
        if importlib.util.find_spec(self.module) is None:
            raise MeasureFailed(f"there is no module {self.module}")
        script = f"import json; from {self.module} import run; print(json.dumps(run()))"
        command = ["taskset", "--cpu-list", str(arena.cores.proxy), sys.executable, "-c", script]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if ran.returncode:
            raise MeasureFailed(f"{self.module} ended with status {ran.returncode}: {ran.stderr.strip()[-600:]}")
        values: dict[str, float] = json.loads(ran.stdout)
        return Outcome(
            [Line(figure.label, figure, {"sidekey": values[key]}, reach) for key, (figure, reach) in self.keys.items()]
        )


ROWS = (
    Alone(
        "core",
        "one exchange without sockets (make bench-core)",
        "benchmarks.core",
        {
            "best_us": (Figure("us an exchange, best round", 2), at_most(8)),
            "median_us": (Figure("median round", 2), None),
        },
    ),
    Alone(
        "oauth2warm",
        "one exchange without sockets, with a valid token against basic in turn (make bench-core)",
        "benchmarks.core",
        {
            "token_best_us": (Figure("us an exchange, best round", 2), None),
            "token_share": (Figure("oauth2 / basic, best rounds", 3), at_most(1.03)),
        },
    ),
    Alone(
        "scrape",
        "pause of the loop while 1,000 active integrations are scraped",
        "benchmarks.scrape",
        {
            "longest_pause_ms": (Figure("longest pause ms", 2), at_most(5)),
            "cpu_ms": (Figure("scrape, CPU ms", 1), None),
        },
    ),
)
