"""Which folders are watched for a file."""

from __future__ import annotations

from pathlib import Path

from sidekey.reloading.folders import folders_of
from support.projected import Projected


def test_a_plain_file_is_reported_of_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert folders_of([tmp_path / "a"]) == {tmp_path}


def test_a_folder_is_reported_of_by_itself_and_the_one_above(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    assert folders_of([tmp_path / "conf"]) == {tmp_path / "conf", tmp_path}


def test_a_mounted_secret_is_reported_of_by_its_mount_where_the_link_is_swapped(tmp_path: Path) -> None:
    mount = Projected(tmp_path / "secret", {"token": "x"}).folder
    assert mount in folders_of([mount / "token"])


def test_a_link_to_another_folder_is_reported_of_in_both(tmp_path: Path) -> None:
    for name in ("live", "archive"):
        (tmp_path / name).mkdir()
    (tmp_path / "archive/1.pem").write_text("")
    (tmp_path / "live/cert.pem").symlink_to("../archive/1.pem")
    found = {folder.resolve() for folder in folders_of([tmp_path / "live/cert.pem"])}
    assert {tmp_path / "live", tmp_path / "archive"} <= found


def test_a_link_on_the_way_is_reported_of_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "releases/1").mkdir(parents=True)
    (tmp_path / "releases/1/key").write_text("")
    (tmp_path / "current").symlink_to("releases/1")
    assert {tmp_path, tmp_path / "releases"} <= folders_of([tmp_path / "current/key"])


def test_what_does_not_exist_is_reported_of_by_the_nearest_folder_that_does(tmp_path: Path) -> None:
    assert folders_of([tmp_path / "no/such/file"]) == {tmp_path}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert folders_of([tmp_path / "a", tmp_path / "a/file"]) == {tmp_path}


def test_a_name_that_is_too_long_is_reported_of_by_its_folder(tmp_path: Path) -> None:
    assert folders_of([tmp_path / ("a" * 300)]) == {tmp_path}
