"""Whether a file may be logged to, without making it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_WAY_OUT: Final = "or write another path, or remove this key to log to standard error"


def refusal(path: Path) -> str | None:
    """Why this user cannot append to the file, and what to do; None: they can, as far as can be told without trying."""
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
