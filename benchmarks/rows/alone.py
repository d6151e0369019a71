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
    """`module` has `run() -> dict[str, float]`; each of its keys is a line, those in `reaches` with one."""

    name: str
    title: str
    module: str
    reaches: Mapping[str, Reach]

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
        lines = [
            Line(key, Figure(key, 2), {"sidekey": float(value)}, self.reaches.get(key)) for key, value in values.items()
        ]
        return Outcome(lines)


ROWS = (
    Alone("core", "one exchange without sockets (make bench-core)", "benchmarks.core", {"microseconds": at_most(8)}),
    Alone(
        "scrape",
        "pause of the loop while 1,000 active integrations are scraped",
        "benchmarks.scrape",
        {"longest_pause_ms": at_most(5)},
    ),
)
