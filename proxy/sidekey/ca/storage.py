"""Where the local CAs are kept: one file with their keys, mode 0600, in a folder of mode 0700.

One file, so that a certificate never meets the key of another and a rotation is one step. It is replaced as a whole
(rename), under a lock (flock) that a second process waits for. Everything goes by the descriptor of a folder that is
this user's and nobody else's to enter, so nothing another user does to the path can move or replace it.
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
"""Below the configured folder, which may be a mount with a mode of its own, or hold more than this."""
NAME = "authorities.json"

_LOCK = "lock"
_MAX_FOLDER_SIZE = 64 << 20
_PATIENCE = 10.0
_PAUSE = 0.05


class FolderError(Exception):
    """The local CAs cannot be read or written; the message says where, why, and the way out."""


def state_file(folder: Path) -> Path:
    """The file of the CAs that are kept in this folder."""
    return folder / SUBFOLDER / NAME


def read(folder: Path) -> Authorities | None:
    """The CAs that are kept; None where there are none yet. Raises FolderError."""
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
    """Change what is kept while no other process does, and return the result.

    `change` gets what is kept now; what it raises is raised, and nothing is changed. Raises FolderError.
    """
    path = folder / SUBFOLDER
    try:
        make_folder(path, 0o700)
        descriptor = _open_folder(path)
    except OSError as error:
        raise _failed(path, "cannot be made or entered", error) from None
    try:
        with _locked(descriptor, path):
            before = _read(descriptor, path)
            after = change(before)
            if after is not before:
                _write(descriptor, path, after)
            return after
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder, and those above it that are missing, each with this mode whatever the umask. Raises OSError."""
    missing = []
    for each in (path, *path.parents):
        if each.exists():
            break
        missing.append(each)
    for each in reversed(missing):
        # Another process may have made it meanwhile.
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode)
            each.chmod(mode)


def _open_folder(path: Path) -> int:
    """Its descriptor, once nobody else may enter it. Raises OSError, FolderError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _make_private(descriptor, path, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_private(descriptor: int, path: Path, mode: int) -> None:
    """Take from others what they may do; a volume's fsGroup gives it to them at each mount. Raises FolderError."""
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise FolderError(f"{path} must belong to the user that Sidekey runs as: set ca.folder to a folder of its own")
    if stat.S_IMODE(found.st_mode) & 0o077:
        try:
            os.fchmod(descriptor, mode)
        except OSError as error:
            raise _failed(path, "must be closed to other users, and its mode cannot be changed", error) from None


@contextlib.contextmanager
def _locked(descriptor: int, path: Path) -> Iterator[None]:
    try:
        lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=descriptor)
    except OSError as error:
        raise _failed(path, "cannot be written", error) from None
    try:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise FolderError(f"{path} is locked by another process of Sidekey: stop it, or wait") from None
                time.sleep(_PAUSE)
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
            # A read reserves its whole size, which fails where memory is limited.
            data = opened.read(min(os.fstat(file).st_size, _MAX_FOLDER_SIZE))
            return Authorities.from_json(data.decode())
        except OSError as error:
            raise _failed(path / NAME, "cannot be read", error) from None
        except ValueError as error:
            reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            way_out = "remove it, and callers must trust a new CA"
            raise FolderError(f"{path / NAME} {reason}: restore it from a backup, or {way_out}") from None


def _write(descriptor: int, path: Path, authorities: Authorities) -> None:
    name = f".{NAME}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Under the lock nobody else writes: what is left of one that was killed goes.
        for each in os.listdir(descriptor):
            if each.startswith(f".{NAME}."):
                os.unlink(each, dir_fd=descriptor)
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


def _failed(path: Path, what: str, error: OSError) -> FolderError:
    reason = os.strerror(error.errno or 0)
    return FolderError(f"{path} {what}: {reason}; set ca.folder to a folder that Sidekey may write to")
