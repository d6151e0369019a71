"""The generated files are current, and the command writes all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tools import docs

ROOT = Path(__file__).parents[2]
pages = cache(docs.pages)


@pytest.mark.parametrize("name", pages())
def test_generated_file_is_current(name: str) -> None:
    """If this fails, run `make docs`."""
    assert (ROOT / name).read_text("utf-8") == pages()[name]


def test_command_writes_every_generated_file(tmp_path: Path) -> None:
    """It writes into the checkout that contains it."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for name in pages():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONPATH": ""}
    subprocess.run([sys.executable, "-m", "tools.docs"], cwd=tmp_path, env=environment, check=True)
    assert {name: (tmp_path / name).read_text("utf-8") for name in pages()} == pages()
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in written if not name.startswith("tools/")} == pages().keys()
