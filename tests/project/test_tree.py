"""No file names a build machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

FOREIGN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.~-])/(?:work|tmp/w|home|root|Users|mnt)/(?!\W)"),
    "the address of a package registry": re.compile(
        r"\b(?:pypi|pythonhosted|npmjs|crates|rubygems|golang)\.(?:org|io)\b"
    ),
}
GENERATED = {".venv", ".venv-compiled", ".venv-wheel", "dist", "__pycache__", "node_modules"}


def project_files() -> Iterator[Path]:
    """Yield every file of the project. Tools leave files in other hidden folders."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name not in GENERATED and (name[0] != "." or name in (".ci", ".github"))
        ]
        # In a linked working tree `.git` is a file.
        yield from (Path(folder, name) for name in names if name != ".git" and not name.endswith(".pyc"))


def test_no_file_has_a_machine_s_path_or_registry_address() -> None:
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in project_files()}
    matches = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match[0]}"
        for path, text in texts.items()
        for what, pattern in FOREIGN.items()
        for match in pattern.finditer(text)
    ]
    assert matches == []
