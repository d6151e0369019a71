"""Stamps of files: they say whether a file has changed, without reading it."""

from __future__ import annotations

import stat
import time
from pathlib import Path

Stamp = tuple[int, int, int, int, int] | None
"""Distinguishes one state of a file (or of a folder's entries) from another; None where there is no file."""

UNREAD: Stamp = (-1, -1, -1, -1, -1)
"""The stamp of a file that could not be read although it may not change before it can: no file has it."""

_MAX_PARALLEL = 32
_ASIDE = 0.00005


def stamp(path: Path) -> Stamp:
    """Take it before the file is read: what changes while it is read differs at the next check.

    The end of all links counts: Kubernetes swaps the link `..data`, which makes it another file. The time of
    change (ctime) cannot be set back, as a copy that keeps its times does with mtime.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_folder(path: Path) -> bool:
    """Whether it is a folder that one may look at: `Path.is_dir` raises where a folder above it may not be entered."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def yield_interpreter(done: int) -> None:
    """Let the event loop run from time to time, in a thread that has `done` so many files.

    Each system call releases the interpreter and acquires it again before another thread has woken up, which then waits
    again: many in a row hold it for their whole duration, whatever the switch interval.
    """
    if done % _MAX_PARALLEL == 0:
        time.sleep(_ASIDE)


class StampCache:
    """The stamps of one check: each file's is taken once, when it is first asked for."""

    __slots__ = ("stamps",)

    def __init__(self) -> None:
        self.stamps: dict[Path, Stamp] = {}

    def __call__(self, path: Path) -> Stamp:
        """The file's stamp."""
        stamps = self.stamps
        if path not in stamps:
            stamps[path] = stamp(path)
            yield_interpreter(len(stamps))
        return stamps[path]
