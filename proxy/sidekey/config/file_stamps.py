"""Stamps of files, which detect a change without reading the file."""

from __future__ import annotations

import stat
import time
from pathlib import Path

Stamp = tuple[int, int, int, int, int] | None
"""Device, inode, size, mtime and ctime of a file or folder; None if it does not exist."""

UNREAD: Stamp = (-1, -1, -1, -1, -1)
"""A stamp that no file has: for a file that becomes readable without a change of its own, so that it is read again."""

_FILES_PER_PAUSE = 32
_PAUSE = 0.00005


def stamp(path: Path) -> Stamp:
    """Return the stamp of a file. Call it before the file is read, so that the next check finds a change meanwhile.

    Links are followed: Kubernetes swaps the link `..data`, which makes it another file. ctime detects a copy that keeps
    its mtime.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_folder(path: Path) -> bool:
    """Return True for a folder. `Path.is_dir` raises if this user cannot enter a folder above it."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def yield_interpreter(done: int) -> None:
    """Let the event loop run after every few files, in a thread that has `done` this many.

    A system call releases the interpreter and acquires it again before another thread wakes up. A series of them
    blocks the event loop for its whole duration, whatever the switch interval.
    """
    if done % _FILES_PER_PAUSE == 0:
        time.sleep(_PAUSE)


class StampCache:
    """The stamps of one check or load. It stats each file once, at the first request."""

    __slots__ = ("stamps",)

    def __init__(self) -> None:
        self.stamps: dict[Path, Stamp] = {}

    def __call__(self, path: Path) -> Stamp:
        """Return the file's stamp."""
        stamps = self.stamps
        if path not in stamps:
            stamps[path] = stamp(path)
            yield_interpreter(len(stamps))
        return stamps[path]
