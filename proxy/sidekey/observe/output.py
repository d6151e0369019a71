"""Where log lines go, standard error or a file, and in which form."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

_UNSAFE: Final = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Controls, which command a terminal (ECMA-48); separators of lines; marks that turn the direction of what follows, so
that it reads as something else (Unicode TR 36, 2.1); and what UTF-8 cannot write."""


def printable(text: str) -> str:
    """A text for a terminal: what would command it, or would turn its direction, is written as an escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


_WORD: Final = re.compile(r"[!#-<>-~]+")
"""A value that needs no quotes: visible ASCII, without `"` and `=`."""

_DIM: Final = "2"
_BOLD: Final = "1"
_LEVELS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
"""Colours by SGR (ECMA-48 8.3.117): green, yellow, red."""
_WIDTH: Final = 7
"""Of a level, so that events are below one another."""


class TextFormatter:
    """Makes text of lines, with `colours` or without."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def render(self, line: bytes) -> bytes:
        """What a line of JSON says. Keys whose value is null are left out."""
        said: dict[str, Any] = json.loads(line)
        stamp, level, event = (str(said.pop(key, "")) for key in ("timestamp", "level", "event"))
        # Milliseconds are enough to read, and the date is easier without a letter in it.
        moment = f"{stamp[:10]} {stamp[11:23]}Z" if len(stamp) == len("2026-01-31T23:59:59.000001Z") else stamp
        parts = [
            self._in(_DIM, printable(moment)),
            self._in(_LEVELS.get(level, _BOLD), printable(level).ljust(_WIDTH)),
            self._in(_BOLD, printable(event)),
        ]
        if event == "request":
            parts += self._request(said)
        parts += [
            f"{self._in(_DIM, f'{_value(key)}=')}{_value(value)}" for key, value in said.items() if value is not None
        ]
        return f"{' '.join(parts)}\n".encode()

    def _request(self, said: dict[str, Any]) -> list[str]:
        """The status, method, integration, host, code and duration of an access line, which are taken out of it."""
        status, seconds = said.pop("status", 0), said.pop("duration", None)
        found = [said.pop(key, None) for key in ("method", "integration", "host", "code")]
        colour = _LEVELS["error" if status >= 500 else "warning" if status >= 400 or found[-1] else "info"]
        parts = [self._in(colour, str(status or "-")), *(_value(each) for each in found if each is not None)]
        return parts if seconds is None else [*parts, f"{seconds * 1000:.1f}ms"]

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _value(value: object) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


Format = Literal["auto", "json", "text"]
Render = Callable[[bytes], bytes]


class Output:
    """A descriptor that lines are written to, which it owns; `render` makes what is written of a line of JSON.

    `path` is set where it is a file that can be opened again. Whatever was opened and is not used closes by itself.
    """

    __slots__ = ("_format", "fd", "path", "render")

    def __init__(self, fd: int, path: str | None = None, format_: Format = "json") -> None:
        self.fd = fd
        self.path = path
        self._format = format_
        self.render = _render(fd, format_)

    def __del__(self) -> None:
        self.close()

    def reopened(self) -> Output:
        """The file that has its path now; itself where it has none. Raises OSError."""
        return self if self.path is None else open_file(self.path, self._format)

    def close(self) -> None:
        """Close it."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def open_standard_error(format_: Format) -> Output:
    """A duplicate of standard error, or nowhere where the process was started without one.

    Descriptor 2 itself is not written to: where it was closed, its number may now be that of a connection.
    """
    if sys.stderr is None:
        return Output(os.open(os.devnull, os.O_WRONLY))
    return Output(os.dup(sys.stderr.fileno()), None, format_)


def open_file(path: str, format_: Format) -> Output:
    """A file that lines are appended to; where there is none, it is made for its owner alone. Raises OSError."""
    # Without O_NONBLOCK, opening a pipe would wait for its reader.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    output = Output(fd, path, format_)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise OSError(errno.EINVAL, "not a regular file")
    return output


def _render(fd: int, format_: Format) -> Render | None:
    """What makes text of lines, where they are for people; None where they are written as they are."""
    on_terminal = os.isatty(fd)
    if format_ == "json" or (format_ == "auto" and not on_terminal):
        return None
    # https://no-color.org: whatever it says, as long as it is not empty.
    colours = on_terminal and not os.environ.get("NO_COLOR", "") and os.environ.get("TERM") != "dumb"
    return TextFormatter(colours=colours).render
