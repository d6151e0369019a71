"""The files that `sidekey export` writes, replaces and removes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sidekey.cli.export import Export, ExportError, write_files

OTHER_TEXT = "version: 1\n"


TEXT = "# Written by sidekey export: integration x\nversion: 1\n"


def export(*names: str, text: str = TEXT) -> Export:
    return Export(dict.fromkeys(names, text), (), (), ())


def test_folder_is_created_with_readable_files(tmp_path: Path) -> None:
    """The files contain no secret, so everybody may read them."""
    folder = tmp_path / "out"
    assert write_files(export("a.yaml", "b.yaml"), folder, replace=False) == []
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml", "b.yaml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert {path.read_text() for path in folder.iterdir()} == {
        "# Written by sidekey export: integration x\nversion: 1\n"
    }


def test_existing_files_are_not_overwritten_without_replace(tmp_path: Path) -> None:
    """The command writes no files at all."""
    write_files(export("a.yaml"), tmp_path, replace=False)
    with pytest.raises(ExportError, match=r"already has files with these names: a\.yaml; --replace overwrites only"):
        write_files(export("a.yaml", "b.yaml"), tmp_path, replace=False)
    assert not (tmp_path / "b.yaml").exists()


def test_replace_overwrites_and_removes_files_of_an_earlier_export(tmp_path: Path) -> None:
    """The command does not change other files."""
    write_files(export("a.yaml", "gone.yaml"), tmp_path, replace=False)
    (tmp_path / "mine.yaml").write_text(OTHER_TEXT)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    newer = export("a.yaml", "b.yaml", text="# Written by sidekey export: newer\n")
    assert write_files(newer, tmp_path, replace=True) == ["gone.yaml"]
    assert (tmp_path / "a.yaml").read_text() == "# Written by sidekey export: newer\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "b.yaml", "link.yaml", "mine.yaml", "secrets"]
    assert (tmp_path / "mine.yaml").read_text() == OTHER_TEXT
    with pytest.raises(ExportError, match=r"these names: link\.yaml, mine\.yaml;"):
        write_files(export("a.yaml", "link.yaml", "mine.yaml"), tmp_path, replace=True)
    assert (tmp_path / "mine.yaml").read_text() == OTHER_TEXT


def test_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file cannot be written: File exists"):
        write_files(export("a.yaml"), tmp_path / "file", replace=False)
    with pytest.raises(ExportError, match="cannot be written: No such file or directory"):
        write_files(export("a.yaml"), tmp_path / "no" / "out", replace=False)
