"""The log file is checked before its first use, and the check creates nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidekey.config.build.listeners import log_file_error
from sidekey.config.load import Loader

HEAD = "version: 1\nlog: {{file: {file}}}\nintegrations:\n"
REST = '  a: {endpoint_prefix: "https://a.test", auth: {type: headers, headers: {X-Public: "1"}}}\n'


def test_writable_or_creatable_file_has_no_error_and_is_not_created(tmp_path: Path) -> None:
    assert log_file_error(tmp_path / "log") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "log").touch()
    assert log_file_error(tmp_path / "log") is None
    assert log_file_error(Path(os.devnull)) is None


def test_error_names_the_path_and_the_remedy(tmp_path: Path) -> None:
    """For a missing folder, and for a path that is not a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    remedy = "or write another path, or remove this key to log to standard error"
    missing = tmp_path / "none"
    assert log_file_error(missing / "log") == f"the folder {missing} does not exist: create it, {remedy}"
    in_file = tmp_path / "file"
    assert log_file_error(in_file / "log") == f"the folder {in_file} does not exist: create it, {remedy}"
    for name in ("pipe", ""):
        path = tmp_path / name
        assert log_file_error(path) == f"{path} must be a regular file: remove it, {remedy}"


def test_file_that_the_user_cannot_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root can write anywhere, so the test replaces os.access."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    remedy = "change its owner or mode, or write another path, or remove this key to log to standard error"
    assert log_file_error(tmp_path / "log") == f"the folder {tmp_path} must be writable for this user: {remedy}"
    (tmp_path / "log").touch()
    assert log_file_error(tmp_path / "log") == f"{tmp_path / 'log'} must be writable for this user: {remedy}"


def test_relative_path_starts_at_the_config_folder_and_its_error_has_a_place(tmp_path: Path) -> None:
    config = tmp_path / "sidekey.yaml"
    config.write_text(HEAD.format(file="logs/sidekey.log") + REST)
    loaded = Loader(config, {}).load()
    (error,) = loaded.of("unwritable")
    # Commands that log nothing there go on.
    assert loaded.snapshot is not None
    assert str(error).startswith(f"{config}:2:13: log.file: the folder {tmp_path / 'logs'} does not exist: create it")
    (tmp_path / "logs").mkdir()
    loaded = Loader(config, {}).load()
    assert loaded.snapshot is not None
    assert loaded.snapshot.log.file == str(tmp_path / "logs" / "sidekey.log")


def test_log_file_in_use_is_not_checked_again(tmp_path: Path) -> None:
    """Its folder may be closed by now, which must not block a rotated credential."""
    config = tmp_path / "sidekey.yaml"
    (tmp_path / "logs").mkdir()
    config.write_text(HEAD.format(file="logs/sidekey.log") + REST)
    loader = Loader(config, {})
    assert loader.load().of("unwritable") == []
    (tmp_path / "logs").rmdir()
    config.write_text(HEAD.format(file="logs/sidekey.log") + REST + REST.replace(" a:", " b:"))
    assert loader.load().of("unwritable") == []
    config.write_text(HEAD.format(file="logs/other.log") + REST)
    assert [len(loader.load().of("unwritable")) for _ in range(2)] == [1, 1]
