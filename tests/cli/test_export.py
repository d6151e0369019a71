"""The files of `sidekey export`: what is written over, removed, and left alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sidekey.cli.export import Export, ExportError, write_files

MINE = "version: 1\n"


TEXT = "# Written by sidekey export: integration x\nversion: 1\n"


def export(*names: str, text: str = TEXT) -> Export:
    return Export(dict.fromkeys(names, text), (), (), ())


def test_the_folder_is_made_and_everybody_may_read_what_is_in_it(tmp_path: Path) -> None:
    """There is no secret in it. Nothing else is left there."""
    folder = tmp_path / "out"
    assert write_files(export("a.yaml", "b.yaml"), folder, replace=False) == []
    assert sorted(path.name for path in folder.iterdir()) == ["a.yaml", "b.yaml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert {path.read_text() for path in folder.iterdir()} == {
        "# Written by sidekey export: integration x\nversion: 1\n"
    }


def test_nothing_is_written_over_without_being_told(tmp_path: Path) -> None:
    """Not even what is not in the way."""
    write_files(export("a.yaml"), tmp_path, replace=False)
    with pytest.raises(ExportError, match=r"has files that would be written over: a\.yaml; --replace does so"):
        write_files(export("a.yaml", "b.yaml"), tmp_path, replace=False)
    assert not (tmp_path / "b.yaml").exists()


def test_an_export_before_is_replaced_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    """Files that somebody else wrote are neither, whatever they are called."""
    write_files(export("a.yaml", "gone.yaml"), tmp_path, replace=False)
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "link.yaml").symlink_to("a.yaml")
    newer = export("a.yaml", "b.yaml", text="# Written by sidekey export: newer\n")
    assert write_files(newer, tmp_path, replace=True) == ["gone.yaml"]
    assert (tmp_path / "a.yaml").read_text() == "# Written by sidekey export: newer\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "b.yaml", "link.yaml", "mine.yaml", "secrets"]
    assert (tmp_path / "mine.yaml").read_text() == MINE
    with pytest.raises(ExportError, match=r"written over: link\.yaml, mine\.yaml;"):
        write_files(export("a.yaml", "link.yaml", "mine.yaml"), tmp_path, replace=True)
    assert (tmp_path / "mine.yaml").read_text() == MINE


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file cannot be written: File exists"):
        write_files(export("a.yaml"), tmp_path / "file", replace=False)
    with pytest.raises(ExportError, match="cannot be written: No such file or directory"):
        write_files(export("a.yaml"), tmp_path / "no" / "out", replace=False)
