"""A running Sidekey's config, changed in one integration at a time, and what its log says of each reload."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.arena import Running
from benchmarks.peers.sidekey import config_file
from benchmarks.processes import MeasureFailed

_PATIENCE = 30.0
"""Seconds after which a reload is not expected any more."""

_POLL_SECONDS = 0.01
_EVENT = "config reloaded"
_PLACE = "\n  bench:\n"


@dataclass(frozen=True, slots=True)
class Reload:
    """What the log says of one: wall seconds from the begin of the load to the swap, and what it took up."""

    seconds: float
    changed: int
    removed: int


def reloads_of(log: str) -> list[Reload]:
    """The reloads that a log tells of. Lines that are no JSON objects are another's; one without its end is to come."""
    found = []
    for line in log.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("\n"):
            told = json.loads(line)
            if told["event"] == _EVENT:
                found.append(Reload(told["seconds"], told["changed"], told["removed"]))
    return found


class Editor:
    """Gives the integration `bench` another description and waits for the reload, again and again.

    `bench` is the one that is asked, so that what is made anew for a changed integration is made, and used.
    """

    def __init__(self, running: Running) -> None:
        self._program = running.program
        self._config = config_file(running.job)
        self._beside = self._config.with_suffix(".next")
        self._before, place, self._after = self._config.read_text(encoding="utf-8").partition(_PLACE)
        if not place:
            raise MeasureFailed(f"{self._config} has no integration `bench`")
        self._count = 0

    def edit(self) -> Reload:
        """Write the config beside the one in use, rename it, and wait until the log tells of its reload.

        Raises MeasureFailed where it does not, or tells of anything but one changed integration.
        """
        self._count += 1
        description = f"    description: edited {self._count} times\n"
        self._beside.write_text(f"{self._before}{_PLACE}{description}{self._after}", encoding="utf-8")
        self._beside.replace(self._config)
        deadline = time.monotonic() + _PATIENCE
        while len(told := reloads_of(self._program.output())) < self._count:
            self._program.check_alive()
            if time.monotonic() > deadline:
                raise MeasureFailed(f"no reload within {_PATIENCE:g} s; it says: {self._program.output()[-600:]}")
            time.sleep(_POLL_SECONDS)
        last = told[-1]
        if len(told) != self._count or (last.changed, last.removed) != (1, 0):
            raise MeasureFailed(
                f"{self._count} changes of one integration were taken up in {len(told)} reloads: {last}"
            )
        return last

    @contextmanager
    def editing(self) -> Iterator[list[Reload]]:
        """Make one edit after the other while the block runs, at least one; the reloads, complete once it has ended.

        Raises MeasureFailed, at the end of the block, where an edit did.
        """
        found: list[Reload] = []
        done = threading.Event()

        def edit_on() -> None:
            found.append(self.edit())
            while not done.is_set():
                found.append(self.edit())

        with ThreadPoolExecutor(1) as pool:
            work: Future[None] = pool.submit(edit_on)
            try:
                yield found
            finally:
                done.set()
        work.result()
