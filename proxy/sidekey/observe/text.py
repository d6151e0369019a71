"""Log lines for people: what a line of JSON says, in one line of text.

Time, level, event, then what varies as KEY=VALUE; of a request what it was and what became of it comes first. No value
commands a terminal or begins a line of its own: what is more than one plain word is quoted, with its controls escaped.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from sidekey.core.printable import printable

_WORD: Final = re.compile(r"[!#-<>-~]+")
"""A value that needs no quotes: visible ASCII, without `"` and `=`."""

_DIM: Final = "2"
_BOLD: Final = "1"
_LEVELS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
"""Colours by SGR (ECMA-48 8.3.117): green, yellow, red."""
_WIDTH: Final = 7
"""Of a level, so that events are below one another."""


class Text:
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
