"""Find an entry of a file with several secrets: a member of a JSON object, or a variable of a dotenv file.

A ValueError has the end of a sentence that begins with the file's name. It never has a value or a line of the file.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from sidekey.credentials.fields import FileEntry
from sidekey.policy.json_reader import TooDeepError, parse_json

_VARIABLE: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_UNQUOTED: Final = re.compile(r"[^\s'\"#$`\\]*")
_SINGLE_QUOTED: Final = re.compile(r"'([^']*)'")
_DOUBLE_QUOTED: Final = re.compile(r'"([^"$`\\]*)"')
_COMPLETE: Final = re.compile(r"(?:'[^']*'|\"(?:\\.|[^\"\\])*\")?[^'\"]*")
"""A value that ends on its line: an open quote would make the next lines a part of it."""
_DIALECTS: Final = "put it between single quotes, because programs read it in different ways"


def find_entry(entry: FileEntry, text: str) -> str:
    """Return the value of an entry. Raises ValueError."""
    return _find_member(entry.key, text) if entry.format == "json" else _find_variable(entry.key, text)


def _find_member(key: str, text: str) -> str:
    try:
        document = parse_json(text, _DECODER.decode)
    except _Duplicate:
        raise ValueError("has a JSON object with two members of the same name") from None
    except TooDeepError:
        raise
    except ValueError:
        raise ValueError("must be JSON") from None
    if not isinstance(document, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - the reader reports ValueError
    if key not in document:
        raise ValueError("has no member with the name in `key`")
    value = document[key]
    if not isinstance(value, str):
        raise ValueError("must have a text as the member in `key`")  # noqa: TRY004 - see above
    return value


class _Duplicate(ValueError):
    """A JSON object has two members of the same name (RFC 8259 4), which parsers treat differently."""


def _refuse_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        raise _Duplicate
    return document


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)


def _find_variable(key: str, text: str) -> str:
    """Return a variable of a dotenv file. All programs must read its line in the same way, and as a line of its own."""
    value: str | None = None
    lines = (line.strip(" \t") for line in text.replace("\r\n", "\n").split("\n"))
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        variable = _VARIABLE.fullmatch(line)
        if variable is None:
            raise ValueError(f"line {number} must be NAME=VALUE, a comment, or empty")
        name, raw = variable.groups()
        if not _COMPLETE.fullmatch(raw):
            raise ValueError(f"line {number} has a quote that does not end, or is not at the beginning of the value")
        if name != key:
            continue
        quoted = _SINGLE_QUOTED.fullmatch(raw) or _DOUBLE_QUOTED.fullmatch(raw)
        if quoted is None and not _UNQUOTED.fullmatch(raw):
            raise ValueError(f"line {number} has a value with a quote, blank, #, $, ` or \\: {_DIALECTS}")
        if value is not None:
            raise ValueError(f"line {number} sets the variable for the second time: remove one")
        value = raw if quoted is None else quoted[1]
    if value is None:
        raise ValueError("has no variable with the name in `key`")
    return value
