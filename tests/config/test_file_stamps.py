import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sidekey.config.file_stamps import StampCache, is_folder, stamp, yield_interpreter


def rewrite(path: Path) -> None:
    path.write_text("newer")


def replace_it(path: Path) -> None:
    path.with_name("new").write_text("older")
    path.with_name("new").replace(path)


def rewrite_and_set_back(path: Path) -> None:
    before = path.stat()
    path.write_text("newer and longer")
    path.write_text("newer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, replace_it, rewrite_and_set_back, Path.unlink])
def test_changed_file_has_another_stamp(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Even with the same size or an mtime that was set back, and if it was removed."""
    path = tmp_path / "crm"
    path.write_text("older")
    os.utime(path, ns=(0, 0))
    before = stamp(path)
    assert before is not None
    assert stamp(path) == before
    change(path)
    assert stamp(path) != before


def test_swapped_link_has_another_stamp(tmp_path: Path) -> None:
    """Kubernetes updates a mounted secret by swapping a link above it."""
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "crm").write_text("hunter2")
    link = tmp_path / "..data"
    link.symlink_to("old")
    before = stamp(link / "crm")
    link.unlink()
    link.symlink_to("new")
    assert stamp(link / "crm") != before


def test_folder_with_a_new_file_has_another_stamp(tmp_path: Path) -> None:
    os.utime(tmp_path, ns=(0, 0))
    before = stamp(tmp_path)
    (tmp_path / "b.yaml").write_text("version: 1\n")
    assert stamp(tmp_path) != before


def test_stamp_cache_stats_each_file_once(tmp_path: Path) -> None:
    path = tmp_path / "crm"
    path.write_text("older")
    stamps = StampCache()
    first = stamps(path)
    path.unlink()
    assert stamps(path) == first
    assert stamps.stamps == {path: first}
    assert StampCache()(path) is None


def test_files_and_unusable_paths_are_not_folders(tmp_path: Path) -> None:
    """A path that is too long for the file system is none."""
    (tmp_path / "file").write_text("")
    paths = [tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / "file/below", tmp_path / ("a" * 300)]
    assert [is_folder(path) for path in paths] == [True, False, False, False, False]


def test_yield_interpreter_pauses_after_every_32_files(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    for done in range(1, 65):
        yield_interpreter(done)
    assert len(slept) == 2
    assert all(seconds > 0 for seconds in slept)
