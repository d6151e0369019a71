"""Find files of a config, and folders on their paths, that other users of the machine may change or read.

Owners are not judged: as a rule the owner of a config is whoever deploys it. Where a file system is mounted read-only
nobody can write through it. The root of a mount is not judged either: whoever mounts a volume decides who uses it, and
the root of a Kubernetes emptyDir has mode 0777. Of files only regular ones are judged: every user writes to /dev/null.
"""

from __future__ import annotations

import errno
import grp
import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from sidekey.config.file_stamps import yield_interpreter

_ROOT: Final = 0
_MAX_LINKS: Final = 40
"""Depth of symbolic links (path_resolution(7)), for links that change meanwhile."""

_SWAPPED: Final = "..data"
"""The link that Kubernetes swaps when it updates a volume of a Secret or ConfigMap."""

_SHOWN: Final = 3


class WritableFile(NamedTuple):
    """A file, or a folder on the way to it, that others may change. `used_by` is the path in the config."""

    used_by: Path
    message: str


class ReadableFiles(NamedTuple):
    """All secrets that others may read. `used_by` is the first of them, as a path in the config."""

    used_by: Path
    message: str


class PermissionReport(NamedTuple):
    """What others may do to the files of one load."""

    writable: list[WritableFile]
    readable: ReadableFiles | None


class _Location(NamedTuple):
    """Where a path leads. `folders` are all that were entered on the way, those of symbolic links included."""

    path: str
    state: os.stat_result
    folders: frozenset[str]
    swapped: bool = False

    def __repr__(self) -> str:
        return f"_Location({self.path})"


def check_permissions(paths: Iterable[Path], secrets: Collection[Path]) -> PermissionReport:
    """Judge the files at `paths`; those that are missing, or cannot be reached, are ignored. `secrets` hold secrets."""
    judge = _Judge()
    writable: dict[str, WritableFile] = {}
    readable: dict[Path, _Location] = {}
    for number, path in enumerate(sorted(paths), 1):
        yield_interpreter(number)
        try:
            # The kernel ends a path with too many links (ELOOP), which a walk of our own could follow for very long.
            path.stat()
            location = judge.locate(os.path.abspath(path))  # noqa: PTH100 - links are followed one by one
        except OSError:
            continue
        for offender, message in judge.find_writable(location):
            writable.setdefault(offender, WritableFile(path, message))
        if path in secrets and judge.is_readable(location):
            readable[path] = location
    return PermissionReport(list(writable.values()), _readable(readable) if readable else None)


def _readable(found: dict[Path, _Location]) -> ReadableFiles:
    """Join all findings into one: with the default umask there is one for each secret."""
    user = os.geteuid()
    changeable = [each.path for each in found.values() if user in (_ROOT, each.state.st_uid)]
    # Such as a secret of Docker, which is root's and has mode 0444.
    foreign = [each.path for each in found.values() if user not in (_ROOT, each.state.st_uid)]
    ways_out = [f"run chmod o-r on {_shown(changeable)}"] if changeable else []
    ways_out += [f"set `mode` of the mount with {_shown(foreign)}, owned by another user"] if foreign else []
    message = f"every user of this machine can read secrets: {', '.join(ways_out)}, or close a folder above"
    return ReadableFiles(next(iter(found)), message)


def _shown(paths: list[str]) -> str:
    return ", ".join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else "")


class _Judge:
    """Looks at files of one load, at each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, _Location] = {}
        self._writable: dict[str, str] = {}
        self._closed: set[str] = set()
        """Folders that do not let every user pass."""

    def locate(self, path: str, links: int = 0) -> _Location:
        """Follow an absolute path. Raises OSError."""
        above, name = os.path.split(path)
        if not name:
            return _Location("/", os.stat("/"), frozenset())  # noqa: PTH116 - all paths here are texts
        folder = self._folder(above, links)
        if name == "..":
            return self._folder(os.path.dirname(folder.path), links)  # noqa: PTH120
        folders = folder.folders | {folder.path}
        found = os.path.join(folder.path, name)  # noqa: PTH118
        state = os.lstat(found)
        if not stat.S_ISLNK(state.st_mode):
            return _Location(found, state, folders, folder.swapped)
        if links >= _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = self.locate(os.path.join(folder.path, os.readlink(found)), links + 1)  # noqa: PTH115, PTH118
        return target._replace(
            folders=target.folders | folders, swapped=target.swapped or folder.swapped or name == _SWAPPED
        )

    def _folder(self, path: str, links: int) -> _Location:
        found = self._folders.get(path)
        if found is None:
            found = self._folders[path] = self.locate(path, links)
            self._writable[found.path] = _writable_folder(found)
            if not found.state.st_mode & stat.S_IXOTH:
                self._closed.add(found.path)
        return found

    def find_writable(self, location: _Location) -> Iterator[tuple[str, str]]:
        """Find what others may change of a file and of the folders on its path."""
        for folder in sorted(location.folders):
            if self._writable[folder]:
                yield folder, self._writable[folder]
        message = ""
        if stat.S_ISDIR(location.state.st_mode):
            message = _writable_folder(location)
        elif stat.S_ISREG(location.state.st_mode):
            message = _writable_file(location)
        if message:
            yield location.path, message

    def is_readable(self, location: _Location) -> bool:
        """Return True if every user can read a file: its mode allows it, and that of each folder lets users pass."""
        return bool(
            stat.S_ISREG(location.state.st_mode)
            and location.state.st_mode & stat.S_IROTH
            and not location.swapped
            and self._closed.isdisjoint(location.folders)
            and not _is_mounted_read_only(location.path)
        )


def _writable_file(location: _Location) -> str:
    """Say that others may write to a file, and what to do; empty where none may."""
    writers, mode = _writers(location.state)
    if not writers or _is_mounted_read_only(location.path):
        return ""
    path = location.path
    return f"{path} can be changed by {writers} ({_octal(location.state)}): run chmod {mode} {shlex.quote(path)}"


def _writable_folder(location: _Location) -> str:
    """Say that others may replace what is in a folder, and what to do; empty where none may."""
    writers, mode = _writers(location.state)
    path = location.path
    if (
        not writers
        or location.state.st_mode & stat.S_ISVTX
        or (path != "/" and os.path.ismount(path))
        or _is_mounted_read_only(path)
    ):
        return ""
    octal, way_out = _octal(location.state), f"run chmod {mode} {shlex.quote(path)}, or set its sticky bit"
    return f"the folder {path} can be changed by {writers} ({octal}), who can replace what is in it: {way_out}"


def _writers(state: os.stat_result) -> tuple[str, str]:
    """Return who beside the owner may write, and the mode for chmod that ends it; both empty where nobody may."""
    by_group = bool(state.st_mode & stat.S_IWGRP) and not _is_own_group(state.st_gid)
    if state.st_mode & stat.S_IWOTH:
        return "every user", "go-w" if by_group else "o-w"
    return (f"the group {state.st_gid}", "g-w") if by_group else ("", "")


def _is_own_group(group: int) -> bool:
    """Return True for the groups of root and of this process.

    A supplementary group counts only if it has no name: a container runtime adds it for a volume, such as the fsGroup
    of a pod. One with a name has other members.
    """
    if group in (_ROOT, os.getegid()):
        return True
    if group not in os.getgroups():
        return False
    try:
        grp.getgrgid(group)
    except KeyError:
        return True
    return False


def _is_mounted_read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _octal(state: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(state.st_mode):04o}"
