"""Find config files, and folders on their paths, that other users of the machine can change or read.

The check ignores owners (usually whoever deploys the config), read-only mounts, and the root of a mount: the root of a
Kubernetes emptyDir has mode 0777. It checks only regular files, because every user can write to /dev/null.
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
"""Maximum depth of symbolic links (path_resolution(7)), in case they change during the check."""

_KUBERNETES_DATA: Final = "..data"
"""The link that Kubernetes swaps to update a volume of a Secret or ConfigMap."""

_MAX_LISTED: Final = 3


class WritableFile(NamedTuple):
    """A file, or a folder on its path, that others can change. `used_by` is the path in the config."""

    used_by: Path
    message: str


class ReadableFiles(NamedTuple):
    """All secrets that others can read. `used_by` is the first one's path in the config."""

    used_by: Path
    message: str


class PermissionReport(NamedTuple):
    """The files of one load that others can change or read."""

    writable: list[WritableFile]
    readable: ReadableFiles | None


class _Location(NamedTuple):
    """The target of a path, and all folders on the way, also on the way of symbolic links."""

    path: str
    state: os.stat_result
    folders: frozenset[str]
    in_kubernetes_volume: bool = False

    def __repr__(self) -> str:
        return f"_Location({self.path})"


def check_permissions(paths: Iterable[Path], secrets: Collection[Path]) -> PermissionReport:
    """Check the files at `paths`, and ignore those that cannot be reached. `secrets` are those that hold secrets."""
    inspector = _Inspector()
    writable: dict[str, WritableFile] = {}
    readable: dict[Path, _Location] = {}
    for number, path in enumerate(sorted(paths), 1):
        yield_interpreter(number)
        try:
            # The kernel refuses a path with too many links (ELOOP), which `locate` would follow for a long time.
            path.stat()
            location = inspector.locate(os.path.abspath(path))  # noqa: PTH100 - links are followed one by one
        except OSError:
            continue
        for writable_path, message in inspector.find_writable(location):
            writable.setdefault(writable_path, WritableFile(path, message))
        if path in secrets and inspector.is_readable(location):
            readable[path] = location
    return PermissionReport(list(writable.values()), _combine_readable(readable) if readable else None)


def _combine_readable(locations: dict[Path, _Location]) -> ReadableFiles:
    """Combine all findings into one, because with the default umask every secret would have a finding."""
    user = os.geteuid()
    owned = [location.path for location in locations.values() if user in (_ROOT, location.state.st_uid)]
    # For example a secret of Docker, which root owns with mode 0444.
    foreign = [location.path for location in locations.values() if user not in (_ROOT, location.state.st_uid)]
    remedies = [f"run chmod o-r on {_list_first(owned)}"] if owned else []
    remedies += [f"set `mode` of the mount with {_list_first(foreign)}, owned by another user"] if foreign else []
    message = f"every user of this machine can read secrets: {', '.join(remedies)}, or close a folder above"
    return ReadableFiles(next(iter(locations)), message)


def _list_first(paths: list[str]) -> str:
    return ", ".join(paths[:_MAX_LISTED]) + (
        f" and {len(paths) - _MAX_LISTED} more" if len(paths) > _MAX_LISTED else ""
    )


class _Inspector:
    """Inspects the files of one load, and each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, _Location] = {}
        self._writable: dict[str, str] = {}
        self._closed: set[str] = set()
        """Folders that not every user can enter."""

    def locate(self, path: str, links: int = 0) -> _Location:
        """Follow an absolute path and its links. Raises OSError."""
        parent, name = os.path.split(path)
        if not name:
            return _Location("/", os.stat("/"), frozenset())  # noqa: PTH116 - all paths here are texts
        folder = self._folder(parent, links)
        if name == "..":
            return self._folder(os.path.dirname(folder.path), links)  # noqa: PTH120
        folders = folder.folders | {folder.path}
        full_path = os.path.join(folder.path, name)  # noqa: PTH118
        state = os.lstat(full_path)
        if not stat.S_ISLNK(state.st_mode):
            return _Location(full_path, state, folders, folder.in_kubernetes_volume)
        if links >= _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = self.locate(os.path.join(folder.path, os.readlink(full_path)), links + 1)  # noqa: PTH115, PTH118
        return target._replace(
            folders=target.folders | folders,
            in_kubernetes_volume=target.in_kubernetes_volume or folder.in_kubernetes_volume or name == _KUBERNETES_DATA,
        )

    def _folder(self, path: str, links: int) -> _Location:
        folder = self._folders.get(path)
        if folder is None:
            folder = self._folders[path] = self.locate(path, links)
            self._writable[folder.path] = _writable_folder_message(folder)
            if not folder.state.st_mode & stat.S_IXOTH:
                self._closed.add(folder.path)
        return folder

    def find_writable(self, location: _Location) -> Iterator[tuple[str, str]]:
        """Yield the file, and each folder on its path, that others can change, with the message."""
        for folder in sorted(location.folders):
            if self._writable[folder]:
                yield folder, self._writable[folder]
        message = ""
        if stat.S_ISDIR(location.state.st_mode):
            message = _writable_folder_message(location)
        elif stat.S_ISREG(location.state.st_mode):
            message = _writable_file_message(location)
        if message:
            yield location.path, message

    def is_readable(self, location: _Location) -> bool:
        """Return True if every user can read the file and enter each folder on its path."""
        return bool(
            stat.S_ISREG(location.state.st_mode)
            and location.state.st_mode & stat.S_IROTH
            and not location.in_kubernetes_volume  # mounted only into this pod
            and self._closed.isdisjoint(location.folders)
            and not _is_mounted_read_only(location.path)
        )


def _writable_file_message(location: _Location) -> str:
    """Return the message for a file that others can change, or an empty one."""
    writers, mode = _writers(location.state)
    if not writers or _is_mounted_read_only(location.path):
        return ""
    path = location.path
    return f"{path} can be changed by {writers} ({_mode_text(location.state)}): run chmod {mode} {shlex.quote(path)}"


def _writable_folder_message(location: _Location) -> str:
    """Return the message for a folder whose files others can replace, or an empty one."""
    writers, mode = _writers(location.state)
    path = location.path
    if (
        not writers
        or location.state.st_mode & stat.S_ISVTX
        or (path != "/" and os.path.ismount(path))
        or _is_mounted_read_only(path)
    ):
        return ""
    mode_text, remedy = _mode_text(location.state), f"run chmod {mode} {shlex.quote(path)}, or set its sticky bit"
    return f"the folder {path} can be changed by {writers} ({mode_text}), who can replace what is in it: {remedy}"


def _writers(state: os.stat_result) -> tuple[str, str]:
    """Return who can write besides the owner, and the chmod mode that revokes it, or two empty texts."""
    by_group = bool(state.st_mode & stat.S_IWGRP) and not _is_trusted_group(state.st_gid)
    if state.st_mode & stat.S_IWOTH:
        return "every user", "go-w" if by_group else "o-w"
    return (f"the group {state.st_gid}", "g-w") if by_group else ("", "")


def _is_trusted_group(group: int) -> bool:
    """Return True for the groups of root and of this process.

    A supplementary group counts only if it has no name: a container runtime adds such a group for a volume, as the
    fsGroup of a pod. A group with a name has other members.
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


def _mode_text(state: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(state.st_mode):04o}"
