"""admin/console/static_files.py: what pages refer to, under names that change with what is in it."""

from __future__ import annotations

import gzip

from sidekey.admin.console.static_files import files


def test_files_have_names_with_their_digests() -> None:
    names = {name.rpartition(".")[2]: name for name in files()}
    assert set(names) == {"css", "js", "svg"}
    assert all(len(name.partition("-")[2].partition(".")[0]) == 12 for name in names.values())


def test_each_is_kept_compressed_as_well() -> None:
    for each in files().values():
        assert gzip.decompress(each.compressed) == each.body
