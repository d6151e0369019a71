"""Builds the rules of the log, and checks that its file can be written, without creating it."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Final

from sidekey.runtime.snapshot import Log
from sidekey.settings.models import LogSettings
from sidekey.settings.secrets import SecretReader

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
