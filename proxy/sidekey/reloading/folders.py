"""Which folders report a change of a file: each that holds a link on the way to it, and the one that holds the file.

A watch on the file would go silent with the first swap of a link, which is how Kubernetes renews a mounted ConfigMap
or Secret: `token` leads to `..data/token`, and `..data`, in the same folder, is made to lead elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sidekey.settings.stamps import is_folder, yield_interpreter

MOST_LINKS = 40
"""Links on the way to a file, as Linux bounds them (path_resolution(7)): after these it counts as a loop."""


def folders_of(paths: Iterable[Path]) -> frozenset[Path]:
    """The folders to watch for these files and folders (absolute paths), such as exist now.

    Where a folder does not exist, the nearest one above it reports when it appears. Blocks: it reads each link.
    """
    found: set[Path] = set()
    done: set[Path] = set()
    for number, path in enumerate(paths):
        yield_interpreter(number)
        if is_folder(path):
            found.add(path)
        left = MOST_LINKS
        todo: Path | None = path
        while todo is not None and left:
            left -= 1
            folder = todo.parent
            if folder not in done:
                # Many secrets share a folder: the way to it is followed once.
                done.add(folder)
                found.add(_existing(folder))
                found |= _on_the_way(folder)
            todo = _target(todo)
    return frozenset(found)


def _on_the_way(folder: Path) -> set[Path]:
    """The folders that hold the links by which this folder is reached, and those that the links lead by."""
    found: set[Path] = set()
    left = MOST_LINKS
    todo = [folder]
    while todo and left:
        path = todo.pop()
        for part in (path, *path.parents):
            target = _target(part)
            if target is not None and left:
                left -= 1
                found |= {_existing(part.parent), _existing(target.parent)}
                todo.append(target)
    return found


def _target(path: Path) -> Path | None:
    """Where a link leads, as an absolute path; None for what is no link."""
    try:
        return path.parent / path.readlink()
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if is_folder(each)), folder)
