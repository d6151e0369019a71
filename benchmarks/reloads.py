"""Change the config of a running Sidekey, one integration at a time, and read its reloads from the log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from benchmarks.arena import Running
from benchmarks.peers.sidekey import config_file
from benchmarks.processes import MeasureFailed

_PATIENCE = 30.0
"""Seconds after which a reload is no longer expected."""

_POLL_SECONDS = 0.01
_EVENT = "config reloaded"
_MARK = "\n  bench:\n"


@dataclass(frozen=True, slots=True)
class Reload:
    """A reload in the log: seconds from the start of the load to the swap, and changed integrations."""

    seconds: float
    changed: int
    removed: int


def reloads_of(log: str) -> list[Reload]:
    """Return the reloads in a log. Skips lines that are no JSON objects, such as an incomplete last one."""
    reloads = []
    for line in log.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            logged = json.loads(line)
            if logged["event"] == _EVENT:
                reloads.append(Reload(logged["seconds"], logged["changed"], logged["removed"]))
    return reloads


class Editor:
    """Changes the description of `bench` and waits for the reload, again and again.

    `bench` is the one that has the load, so that what a changed integration replaces is replaced, and used.
    """

    def __init__(self, running: Running) -> None:
        self._program = running.program
        self._config = config_file(running.job)
        self._next = self._config.with_suffix(".next")
        self._before, mark, self._after = self._config.read_text(encoding="utf-8").partition(_MARK)
        if not mark:
            raise MeasureFailed(f"{self._config} has no integration `bench`")
        self._count = 0

    def edit(self) -> Reload:
        """Write the next config, rename it to the one in use, and wait until the log has its reload.

        Raises MeasureFailed where it does not, or reports anything but one changed integration.
        """
        self._count += 1
        description = f"    description: edited {self._count} times\n"
        self._next.write_text(f"{self._before}{_MARK}{description}{self._after}", encoding="utf-8")
        self._next.replace(self._config)
        deadline = time.monotonic() + _PATIENCE
        while len(logged := reloads_of(self._program.output())) < self._count:
            self._program.check_alive()
            if time.monotonic() > deadline:
                raise MeasureFailed(
                    f"no reload within {_PATIENCE:g} s; the log ends with: {self._program.output()[-600:]}"
                )
            time.sleep(_POLL_SECONDS)
        last = logged[-1]
        if len(logged) != self._count or (last.changed, last.removed) != (1, 0):
            raise MeasureFailed(f"{self._count} changes of one integration led to {len(logged)} reloads: {last}")
        return last
