"""config/build/listeners.py: a file that cannot be logged to is told before it is needed, and nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sidekey.config.build.listeners import log_file_error
from sidekey.config.load import Loader

HEAD = "version: 1\nlog: {{file: {file}}}\nintegrations:\n"
REST = '  a: {endpoint_prefix: "https://a.test", auth: {type: headers, headers: {X-Public: "1"}}}\n'


def test_a_file_that_is_there_or_can_be_made_is_fine_and_is_not_made(tmp_path: Path) -> None:
    assert log_file_error(tmp_path / "log") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "log").touch()
    assert log_file_error(tmp_path / "log") is None
    assert log_file_error(Path(os.devnull)) is None


def test_a_reason_names_the_path_and_the_way_out(tmp_path: Path) -> None:
    """A folder that is missing, and what has the name but is no file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    way_out = "or write another path, or remove this key to log to standard error"
    missing = tmp_path / "none"
    assert log_file_error(missing / "log") == f"the folder {missing} does not exist: make it, {way_out}"
    assert (
        log_file_error(tmp_path / "file" / "log")
        == f"the folder {tmp_path / 'file'} does not exist: make it, {way_out}"
    )
    for name in ("pipe", ""):
        path = tmp_path / name
        assert log_file_error(path) == f"{path} must be a regular file: remove what has this name, {way_out}"


def test_what_this_user_may_not_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so what the system says is stood in for."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    way_out = "change its owner or mode, or write another path, or remove this key to log to standard error"
    assert log_file_error(tmp_path / "log") == f"the folder {tmp_path} must be writable for this user: {way_out}"
    (tmp_path / "log").touch()
    assert log_file_error(tmp_path / "log") == f"{tmp_path / 'log'} must be writable for this user: {way_out}"


def test_a_relative_path_starts_at_the_config_and_an_error_has_its_place(tmp_path: Path) -> None:
    """As all paths of a config do."""
    config = tmp_path / "sidekey.yaml"
    config.write_text(HEAD.format(file="logs/sidekey.log") + REST)
    loaded = Loader(config, {}).load()
    (error,) = loaded.of("unwritable")
    # Commands that log nothing there go on.
    assert loaded.snapshot is not None
    assert str(error).startswith(f"{config}:2:13: log.file: the folder {tmp_path / 'logs'} does not exist: make it")
    (tmp_path / "logs").mkdir()
    loaded = Loader(config, {}).load()
    assert loaded.snapshot is not None
    assert loaded.snapshot.log.file == str(tmp_path / "logs" / "sidekey.log")


def test_a_file_in_use_keeps_no_reload_from_being_used(tmp_path: Path) -> None:
    """Its folder may be closed by now: a rotated credential must not wait for that."""
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
