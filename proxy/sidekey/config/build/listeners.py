"""Builds the addresses of the listeners, and finds those that a reload would move."""

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


def build_listen(settings: ListenSettings, read: SecretReader) -> Listen:
    """Return the listeners, with absolute paths of sockets."""

    def place(address: Address) -> Address:
        if address.path is None:
            return address
        return replace(address, path=str(read.path(address.path)), mode=settings.mode)

    return Listen(
        proxy=place(settings.proxy),
        admin=place(settings.admin),
        metrics=None if settings.metrics is None else place(settings.metrics),
        names=tuple(settings.names),
    )


def moved(one: Listen, other: Listen) -> Iterator[str]:
    """Yield the keys of `listen` in which two differ."""
    modes = False
    for key in ("proxy", "admin", "metrics"):
        before, after = getattr(one, key), getattr(other, key)
        if before is None or after is None or replace(before, mode=after.mode) != after:
            if before is not after:
                yield key
        else:
            modes |= before.mode != after.mode
    if set(one.names) != set(other.names):
        yield "names"
    if modes:
        yield "mode"


_WAY_OUT: Final = "or write another path, or remove this key to log to standard error"


def build_log(settings: LogSettings, read: SecretReader) -> Log:
    """Return the rules of the log, with the absolute path of its file."""
    log = Log(**dict(settings))
    return log if log.file is None else replace(log, file=str(read.path(log.file)))


def refusal(path: Path) -> str | None:
    """Return why this user cannot append to the file, and what to do; None if they can, as far as is known."""
    folder = path.parent
    try:
        found = path.stat()
    except OSError:
        found = None
    if found is not None:
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode)):
            return f"{path} must be a regular file: remove what has this name, {_WAY_OUT}"
        if not os.access(path, os.W_OK):
            return f"{path} must be writable for this user: change its owner or mode, {_WAY_OUT}"
    elif not folder.is_dir():
        return f"the folder {folder} does not exist: make it, {_WAY_OUT}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} must be writable for this user: change its owner or mode, {_WAY_OUT}"
    return None
