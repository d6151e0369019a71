"""Store the local CAs: one file with certificates and keys, mode 0600, in a folder of mode 0700.

With one file, certificates and keys always match, and a rotation is atomic. Sidekey replaces the file by rename, under
a flock that other processes wait for. All operations use the descriptor of the folder, which only this user may enter,
so no other user can move or replace the file through its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sidekey.ca.authorities import Authorities

SUBFOLDER = "ca"
"""Below the configured folder, which may be a mount with its own mode, or contain other files."""
NAME = "authorities.json"

_LOCK_FILE = "lock"
_MAX_FILE_SIZE = 64 << 20
_LOCK_SECONDS = 10.0
"""Maximum seconds to wait for the lock."""
_LOCK_PAUSE = 0.05


class FolderError(Exception):
    """The local CAs cannot be read or written. The message names the path, the reason and the remedy."""


def state_file(folder: Path) -> Path:
    """Return the path of the file with the CAs."""
    return folder / SUBFOLDER / NAME


def read(folder: Path) -> Authorities | None:
    """Return the stored CAs, or None if there are none yet. Raises FolderError."""
    path = folder / SUBFOLDER
    try:
        descriptor = _open_folder(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(path, "cannot be read", error) from None
    try:
        return _read(descriptor, path)
    finally:
        os.close(descriptor)


def update(folder: Path, change: Callable[[Authorities | None], Authorities]) -> Authorities:
    """Call `change` with the stored CAs under the lock. Store and return its result.

    Raises FolderError. An exception of `change` passes through, and nothing is stored.
    """
    path = folder / SUBFOLDER
    try:
        make_folder(path, 0o700)
        descriptor = _open_folder(path)
    except OSError as error:
        raise _failed(path, "cannot be made or entered", error) from None
    try:
        with _lock(descriptor, path):
            previous = _read(descriptor, path)
            authorities = change(previous)
            if authorities is not previous:
                _write(descriptor, path, authorities)
            return authorities
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int) -> None:
    """Create a folder and its missing parents, each with this mode despite the umask. Raises OSError."""
    missing = []
    for folder in (path, *path.parents):
        if folder.exists():
            break
        missing.append(folder)
    for folder in reversed(missing):
        # Another process may have created it meanwhile.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode)
            folder.chmod(mode)


def _open_folder(path: Path) -> int:
    """Open the folder and remove the permissions of other users. Raises OSError, FolderError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _make_private(descriptor, path, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_private(descriptor: int, path: Path, mode: int) -> None:
    """Remove group and other permissions: Kubernetes' fsGroup sets them at each mount. Raises FolderError."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        raise FolderError(f"{path} must belong to the user that Sidekey runs as: set ca.folder to a folder of its own")
    if stat.S_IMODE(status.st_mode) & 0o077:
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            raise _failed(path, "must be closed to other users, and its mode cannot be changed", error) from None


@contextlib.contextmanager
def _lock(descriptor: int, path: Path) -> Iterator[None]:
    try:
        lock = os.open(_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=descriptor)
    except OSError as error:
        raise _failed(path, "cannot be written", error) from None
    try:
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise FolderError(f"{path} is locked by another process of Sidekey: stop it, or wait") from None
                time.sleep(_LOCK_PAUSE)
            except OSError as error:
                raise _failed(path, "cannot be locked", error) from None
        yield
    finally:
        os.close(lock)


def _read(descriptor: int, path: Path) -> Authorities | None:
    try:
        file = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failed(path / NAME, "cannot be read", error) from None
    with os.fdopen(file, "rb") as opened:
        _make_private(file, path / NAME, 0o600)
        try:
            # `read` allocates its whole argument, which fails if memory is limited.
            data = opened.read(min(os.fstat(file).st_size, _MAX_FILE_SIZE))
            return Authorities.from_json(data.decode())
        except OSError as error:
            raise _failed(path / NAME, "cannot be read", error) from None
        except ValueError as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            remedy = "remove it, and callers must trust a new CA"
            raise FolderError(f"{path / NAME} {reason}: restore it from a backup, or {remedy}") from None


def _write(descriptor: int, path: Path, authorities: Authorities) -> None:
    name = f".{NAME}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Remove temporary files of killed processes. No other process writes while this one has the lock.
        for entry in os.listdir(descriptor):
            if entry.startswith(f".{NAME}."):
                os.unlink(entry, dir_fd=descriptor)
        file = os.open(name, flags, 0o600, dir_fd=descriptor)
        try:
            with os.fdopen(file, "wb") as opened:
                opened.write(authorities.to_json().encode())
                opened.flush()
                os.fsync(file)
            os.rename(name, NAME, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=descriptor)
            raise
        os.fsync(descriptor)
    except OSError as error:
        raise _failed(path / NAME, "cannot be written", error) from None


def _failed(path: Path, problem: str, error: OSError) -> FolderError:
    reason = os.strerror(error.errno or 0)
    return FolderError(f"{path} {problem}: {reason}; set ca.folder to a folder that Sidekey may write to")
