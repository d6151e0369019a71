"""What the files of a config say, by itself."""

from __future__ import annotations

from pathlib import Path

from sidekey.settings.load import Loader
from support.loading import TENANT, good, prefix, write


def test_a_load_tells_what_is_of_its_files(tmp_path: Path) -> None:
    """And a snapshot has a mapping of its own, which may be emptied."""
    write(tmp_path, f"a {prefix('a')}, {TENANT}", top="ca: {hosts: [example.com]}\n")
    loaded = Loader(tmp_path, {}).load()
    assert loaded.files is not None
    assert loaded.files.stored_at == {"example.com"}
    assert loaded.files.integrations == good(loaded).integrations
    assert loaded.files.integrations is not good(loaded).integrations
    assert (loaded.files.store, loaded.files.callers) == (None, {})


def test_a_config_with_errors_tells_nothing(tmp_path: Path) -> None:
    """Nothing may be joined with it."""
    write(tmp_path, "a auth: {type: basic}")
    assert Loader(tmp_path, {}).load().files is None
