"""Build the listeners and the log from their settings, and find listeners that a reload would move."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from sidekey.config.models import ListenSettings, LogSettings
from sidekey.config.secrets import SecretReader
from sidekey.snapshot.snapshot import Address, Listen, Log

_OTHER_FILE: Final = "or write another path, or remove this key to log to standard error"


def build_listen(settings: ListenSettings, read: SecretReader) -> Listen:
    """Return the listeners, with absolute paths of sockets."""

    def absolute(address: Address) -> Address:
        if address.path is None:
            return address
        return replace(address, path=str(read.path(address.path)), mode=settings.mode)

    return Listen(
        proxy=absolute(settings.proxy),
        admin=absolute(settings.admin),
        metrics=None if settings.metrics is None else absolute(settings.metrics),
        names=tuple(settings.names),
    )


def moved_keys(old: Listen, new: Listen) -> Iterator[str]:
    """Yield the keys of `listen` that differ."""
    is_mode_changed = False
    for key in ("proxy", "admin", "metrics"):
        old_address, new_address = getattr(old, key), getattr(new, key)
        if old_address is None or new_address is None or replace(old_address, mode=new_address.mode) != new_address:
            if old_address is not new_address:
                yield key
        else:
            is_mode_changed |= old_address.mode != new_address.mode
    if set(old.names) != set(new.names):
        yield "names"
    if is_mode_changed:
        yield "mode"


def build_log(settings: LogSettings, read: SecretReader) -> Log:
    """Return the rules of the log, with the absolute path of its file."""
    log = Log(**dict(settings))
    return log if log.file is None else replace(log, file=str(read.path(log.file)))


def log_file_error(path: Path) -> str | None:
    """Return why this user cannot append to a file and how to fix it, or None if they can."""
    folder = path.parent
    try:
        status = path.stat()
    except OSError:
        status = None
    if status is not None:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)):
            return f"{path} must be a regular file: remove it, {_OTHER_FILE}"
        if not os.access(path, os.W_OK):
            return f"{path} must be writable for this user: change its owner or mode, {_OTHER_FILE}"
    elif not folder.is_dir():
        return f"the folder {folder} does not exist: create it, {_OTHER_FILE}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} must be writable for this user: change its owner or mode, {_OTHER_FILE}"
    return None
