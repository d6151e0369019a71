"""The stylesheet, the script and the icon, which lie in the package."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFile:
    """A file that pages refer to by a name with its digest, so that browsers may keep it."""

    def __init__(self, path: Path) -> None:
        self.written_as: Final = path.name
        self.body: Final = path.read_bytes()
        self.compressed: Final = gzip.compress(self.body, 9, mtime=0)
        self.content_type: Final = _TYPES[path.suffix]
        self.name: Final = f"{path.stem}-{hashlib.sha256(self.body).hexdigest()[:12]}{path.suffix}"


@cache
def files() -> Mapping[str, StaticFile]:
    """All of them, by the names that pages have for them."""
    found = [StaticFile(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES]
    return {each.name: each for each in found}
