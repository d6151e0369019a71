"""observe/output.py: a file for its owner alone, a terminal with its colours, and JSON everywhere else."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path

import pytest

from sidekey.observe.output import Format, Output, open_file, open_standard_error

LINE = json.dumps({"timestamp": "", "level": "info", "event": "e", "key": 1}).encode() + b"\n"


def form_of(output: Output) -> str:
    """How a line is written to it: json, text or colours."""
    if output.render is None:
        return "json"
    return "colours" if b"\x1b[" in output.render(LINE) else "text"


@pytest.mark.parametrize(
    ("format_", "terminal", "environment", "form"),
    [
        ("auto", False, {}, "json"),
        ("auto", True, {}, "colours"),
        ("auto", True, {"NO_COLOR": "1"}, "text"),
        ("auto", True, {"NO_COLOR": ""}, "colours"),
        ("auto", True, {"TERM": "dumb"}, "text"),
        ("json", True, {}, "json"),
        ("text", False, {}, "text"),
        ("text", True, {}, "colours"),
    ],
)
def test_text_is_for_terminals_and_colours_for_those_that_have_them(
    format_: Format, terminal: bool, environment: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the config asks for the one or the other."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    other, fd = pty.openpty() if terminal else os.pipe()
    output = Output(fd, None, format_)
    assert form_of(output) == form
    output.close()
    os.close(other)


def test_a_file_is_made_for_its_owner_alone_and_appended_to(tmp_path: Path) -> None:
    """It tells who asked whom; what was in it stays."""
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        output = open_file(str(path), "auto")
        assert form_of(output) == "json"
        os.write(output.fd, line)
        output.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_opened_again_it_is_the_file_that_has_the_path_now(tmp_path: Path) -> None:
    """With the form of before; what has no path is the same."""
    path = tmp_path / "log"
    former = open_file(str(path), "text")
    path.rename(tmp_path / "log.1")
    output = former.reopened()
    os.write(output.fd, b"new\n")
    assert (path.read_bytes(), (tmp_path / "log.1").read_bytes(), form_of(output)) == (b"new\n", b"", "text")
    standard = open_standard_error("auto")
    assert standard.reopened() is standard


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a reader would wait for one, and one with a reader stalls with it."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        open_file(str(tmp_path / "pipe"), "auto")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="not a regular file"):
        open_file(str(tmp_path / "pipe"), "auto")
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        open_file(str(tmp_path), "auto")


def test_what_was_opened_and_is_not_used_closes_by_itself(tmp_path: Path) -> None:
    """As where another part refuses the same config."""
    fd = open_file(str(tmp_path / "log"), "auto").fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
