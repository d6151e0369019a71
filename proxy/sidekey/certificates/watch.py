"""Watches the files that certificates are read from, and has those read again that have changed.

They are polled: docs/decisions/0022-certificates-are-polled.md says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from sidekey.certificates.source import CertificateSource

EVERY = 5.0
"""Seconds between two looks."""

Stamp = tuple[int, int, int, int, int] | None
"""What tells one state of a file from another; None where there is no file."""


class Watch:
    """The files of these sources, as they are now: what differs at a later look has changed.

    Blocks for as long as it takes to look at them once. `report` is told of defects and must not raise.
    """

    def __init__(self, sources: Iterable[CertificateSource], report: Callable[[BaseException], str]) -> None:
        self._sources = tuple(source for source in sources if source.ring.files)
        self._report = report
        self._stamps = self._look()

    def __bool__(self) -> bool:
        return bool(self._sources)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Look once, in a thread, and read again what has changed, in its sources' own way."""
        stamps = await asyncio.to_thread(self._look)
        before, self._stamps = self._stamps, stamps
        changed = {path for path, stamp in stamps.items() if stamp != before[path]}
        if not changed:
            return
        for source in self._sources:
            if not changed.isdisjoint(source.ring.files):
                try:
                    await source.reload()
                except Exception as defect:  # noqa: BLE001  one that is a defect of ours leaves the others watched
                    self._report(defect)

    def _look(self) -> dict[Path, Stamp]:
        """Taken before anything is read: what changes while it is read differs at the next look."""
        return {path: stamp(path) for path in {path for source in self._sources for path in source.ring.files}}


def stamp(path: Path) -> Stamp:
    """Where links lead in the end counts: Kubernetes swaps the link `..data`, which makes it another file.

    The time of change (ctime) cannot be set back, as a copy that keeps its times does with mtime.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
