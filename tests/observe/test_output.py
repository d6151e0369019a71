"""Outputs of log lines: files and terminals, text, and escapes."""

from __future__ import annotations

import json
import os
import pty
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidekey.observe.output import Format, Output, TextFormatter, open_file, open_standard_error, printable

LINE = json.dumps({"timestamp": "", "level": "info", "event": "e", "key": 1}).encode() + b"\n"


def format_of(output: Output) -> str:
    """Return the format of a line: json, text or colours."""
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
def test_terminals_get_text_and_colours(
    format_: Format, terminal: bool, environment: dict[str, str], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config can set another format."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    other, fd = pty.openpty() if terminal else os.pipe()
    output = Output(fd, None, format_)
    assert format_of(output) == form
    output.close()
    os.close(other)


def test_file_is_private_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for line in (b"one\n", b"two\n"):
        output = open_file(str(path), "auto")
        assert format_of(output) == "json"
        os.write(output.fd, line)
        output.close()
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_reopen_opens_the_file_now_at_the_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    previous = open_file(str(path), "text")
    path.rename(tmp_path / "log.1")
    output = previous.reopen()
    os.write(output.fd, b"new\n")
    assert (path.read_bytes(), (tmp_path / "log.1").read_bytes(), format_of(output)) == (b"new\n", b"", "text")
    standard = open_standard_error("auto")
    assert standard.reopen() is standard


def test_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        open_file(str(tmp_path / "pipe"), "auto")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="not a regular file"):
        open_file(str(tmp_path / "pipe"), "auto")
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        open_file(str(tmp_path), "auto")


def test_unused_output_is_closed_when_collected(tmp_path: Path) -> None:
    """Another part may have refused the config."""
    fd = open_file(str(tmp_path / "log"), "auto").fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\ud800", "\\ud800"),
        ("Bestellungen für Zürich, 注文, הזמנות", "Bestellungen für Zürich, 注文, הזמנות"),
    ],
)
def test_only_control_and_bidirectional_characters_are_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped


@given(st.text(st.characters()))
def test_printable_text_is_one_line_without_direction_marks(text: str) -> None:
    escaped = printable(text)
    assert escaped.splitlines() in ([escaped], [])
    assert not {unicodedata.category(character) for character in escaped} & {"Cc", "Cs", "Zl", "Zp"}
    direction_marks = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(character) for character in escaped} & direction_marks


PLAIN = TextFormatter(colours=False)
STAMP = {"timestamp": "2026-01-31T23:59:59.012345Z"}
REQUEST = {
    **STAMP,
    "level": "warning",
    "event": "request",
    "request_id": "5f-1",
    "integration": "crm",
    "door": "reverse",
    "method": "POST",
    "host": "api.example.com",
    "status": 502,
    "code": "upstream_timeout",
    "duration": 0.0123,
    "preset": None,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def render_text(event: dict[str, Any], text: TextFormatter = PLAIN) -> str:
    return text.render(json.dumps(event).encode() + b"\n").decode()


def test_event_as_text() -> None:
    event = {**STAMP, "level": "info", "event": "config reloaded", "by": "a b", "count": 2, "none": None, "list": ["x"]}
    assert render_text(event) == ('2026-01-31 23:59:59.012Z info    config reloaded by="a b" count=2 list=["x"]\n')


@pytest.mark.parametrize(
    ("change", "escaped"),
    [
        ({}, "502 POST crm api.example.com upstream_timeout 12.3ms request_id=5f-1 door=reverse"),
        ({"status": 200, "code": None}, "200 POST crm api.example.com 12.3ms request_id=5f-1 door=reverse"),
        (
            {"status": 0, "code": "caller_gone", "host": None},
            "- POST crm caller_gone 12.3ms request_id=5f-1 door=reverse",
        ),
    ],
)
def test_request_as_text_begins_with_its_result(change: dict[str, Any], escaped: str) -> None:
    assert render_text(REQUEST | change) == f"2026-01-31 23:59:59.012Z warning request {escaped}\n"


@pytest.mark.parametrize(("status", "colour"), [(200, 32), (404, 33), (502, 31)])
def test_colours_show_levels_and_statuses(status: int, colour: int) -> None:
    """Without colours, the text is equal."""
    event = REQUEST | {"status": status, "code": None}
    coloured = render_text(event, TextFormatter(colours=True))
    assert f"\x1b[{colour}m{status}\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render_text(event)


@given(
    event=st.dictionaries(
        st.text() | st.sampled_from(["method", "host", "code", "caller", "request_id"]), JSON, max_size=8
    )
)
def test_line_cannot_control_a_terminal_or_forge_a_line(event: dict[str, Any]) -> None:
    escaped = render_text({**STAMP, "level": "info", "event": "request", **event, "status": 200})
    assert escaped.endswith("\n")
    assert escaped[:-1].splitlines() == [escaped[:-1]]
    assert not {unicodedata.category(character) for character in escaped[:-1]} & {"Cc", "Cs", "Zl", "Zp"}


@given(value=st.text())
def test_value_cannot_forge_a_key(value: str) -> None:
    """Values with a space or an equals sign are quoted."""
    escaped = (
        render_text({**STAMP, "level": "info", "event": "e", "key": value}).removesuffix("\n").partition("key=")[2]
    )
    if escaped.startswith('"'):
        assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', escaped)
    else:
        assert escaped == value
        assert not set(escaped) & set(' "=')
