"""Outputs of log lines: standard error or a file, as JSON or text, and text that is safe for a terminal."""

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
"""Control characters, which a terminal executes (ECMA-48), line separators, bidirectional marks, which make text read
differently (Unicode TR 36, 2.1), and surrogates, which UTF-8 cannot encode."""


def printable(text: str) -> str:
    """Escape characters that would control a terminal or change the direction of the text."""
    return _UNSAFE.sub(lambda character: character[0].encode("unicode_escape").decode(), text)


_WORD: Final = re.compile(r"[!#-<>-~]+")
"""A value that needs no quotes: visible ASCII, without `"` and `=`."""

_DIM: Final = "2"
_BOLD: Final = "1"
_LEVELS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
"""Colours by SGR (ECMA-48 8.3.117): green, yellow, red."""
_WIDTH: Final = 7
"""Width of the level column."""


class TextFormatter:
    """Formats JSON lines as text."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def render(self, line: bytes) -> bytes:
        """Format a JSON line as text. Keys whose value is null are omitted."""
        values: dict[str, Any] = json.loads(line)
        stamp, level, event = (str(values.pop(key, "")) for key in ("timestamp", "level", "event"))
        # For readers: milliseconds, and a space instead of the T.
        moment = f"{stamp[:10]} {stamp[11:23]}Z" if len(stamp) == len("2026-01-31T23:59:59.000001Z") else stamp
        parts = [
            self._paint(_DIM, printable(moment)),
            self._paint(_LEVELS.get(level, _BOLD), printable(level).ljust(_WIDTH)),
            self._paint(_BOLD, printable(event)),
        ]
        if event == "request":
            parts += self._request_columns(values)
        parts += [
            f"{self._paint(_DIM, f'{_value(key)}=')}{_value(value)}"
            for key, value in values.items()
            if value is not None
        ]
        return f"{' '.join(parts)}\n".encode()

    def _request_columns(self, values: dict[str, Any]) -> list[str]:
        """Remove and format the leading columns of an access line, from the status to the duration."""
        status, seconds = values.pop("status", 0), values.pop("duration", None)
        columns = [values.pop(key, None) for key in ("method", "integration", "host", "code")]
        colour = _LEVELS["error" if status >= 500 else "warning" if status >= 400 or columns[-1] else "info"]
        parts = [
            self._paint(colour, str(status or "-")),
            *(_value(column) for column in columns if column is not None),
        ]
        return parts if seconds is None else [*parts, f"{seconds * 1000:.1f}ms"]

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text


def _value(value: object) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return printable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


Format = Literal["auto", "json", "text"]
Render = Callable[[bytes], bytes]


class Output:
    """A file descriptor for log lines. The object owns it, and closes it when it is garbage collected.

    `render` formats a JSON line, or is None to write it unchanged. `path` is set if the file can be reopened.
    """

    __slots__ = ("_format", "fd", "path", "render")

    def __init__(self, fd: int, path: str | None = None, format_: Format = "json") -> None:
        self.fd = fd
        self.path = path
        self._format = format_
        self.render = _render(fd, format_)

    def __del__(self) -> None:
        self.close()

    def reopen(self) -> Output:
        """Open the file that is at the path now. Return this output if it has no path. Raises OSError."""
        return self if self.path is None else open_file(self.path, self._format)

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


def open_standard_error(format_: Format) -> Output:
    """Open a duplicate of standard error, or /dev/null if the process has none.

    Writing to descriptor 2 would be unsafe: if it was closed, a connection may have its number.
    """
    if sys.stderr is None:
        return Output(os.open(os.devnull, os.O_WRONLY))
    return Output(os.dup(sys.stderr.fileno()), None, format_)


def open_file(path: str, format_: Format) -> Output:
    """Open a file to append lines. Create it, with mode 0600, if it does not exist. Raises OSError."""
    # Without O_NONBLOCK, opening a pipe would wait for its reader.
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK, 0o600)
    output = Output(fd, path, format_)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise OSError(errno.EINVAL, "not a regular file")
    return output


def _render(fd: int, format_: Format) -> Render | None:
    """Return the function that formats lines as text, or None to write JSON."""
    on_terminal = os.isatty(fd)
    if format_ == "json" or (format_ == "auto" and not on_terminal):
        return None
    # https://no-color.org: any value that is not empty.
    colours = on_terminal and not os.environ.get("NO_COLOR", "") and os.environ.get("TERM") != "dumb"
    return TextFormatter(colours=colours).render
