"""Stamps of files: what tells whether one is still what it was, without reading it."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int, int, int] | None
"""What tells one state of a file (or of a folder's entries) from another; None where there is none."""


def stamp(path: Path) -> Stamp:
    """Take it before the file is read: what changes while it is read differs at the next look.

    Where links lead in the end counts: Kubernetes swaps the link `..data`, which makes it another file. The time of
    change (ctime) cannot be set back, as a copy that keeps its times does with mtime.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Looks:
    """The stamps of one look: each file's is taken once, when it is first asked for."""

    __slots__ = ("stamps",)

    def __init__(self) -> None:
        self.stamps: dict[Path, Stamp] = {}

    def __call__(self, path: Path) -> Stamp:
        """The file's stamp."""
        stamps = self.stamps
        if path not in stamps:
            stamps[path] = stamp(path)
        return stamps[path]
