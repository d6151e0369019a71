"""Config errors with file, line and column, and the mappings and lists that remember their position in a file."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

Loc = tuple[str | int, ...]
"""The keys and list indexes that lead to a value."""

LocatedErrors = list[tuple[Loc, str]]
"""Locations, each with the message of an error."""

FindingKind = Literal[
    "error", "warning", "unreadable", "retained", "refused", "absent", "unwritable", "mismatched", "writable"
]
"""The kind of a finding. `config.load_result` defines which kinds stop a command.

- `error`: the config is invalid.
- `unreadable`: a secret or a CA file cannot be read.
- `retained`: a changed secret or CA file cannot be used, and its previous value stays in use.
- `refused`: a client certificate was read, and must not be used.
- `absent`: this machine does not have a source address.
- `unwritable`: the log file cannot be written.
- `mismatched`: a preset cannot be used with its integration.
- `writable`: other users may change a file, or a folder on its path.
"""

MAX_ERRORS: Final = 200
"""Maximum number of listed errors of one document. Computing the hint of an error costs more than finding it."""

MORE_ERRORS: Final = f"there are more errors than the first {MAX_ERRORS}: correct these first"


def more_errors(count: int) -> str:
    """Return the last line of a document with `count` errors that are not listed."""
    return f"{count:,} more error{'s' if count > 1 else ''}: correct the first {MAX_ERRORS}, then check again"


_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<*-]{1,64}")
_NAME_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ConfigError(NamedTuple):
    """An error or warning. Lines and columns begin at 1; an empty `path` means the whole file."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path or '(file)'}: {self.message}"


class Finding(NamedTuple):
    """An error or warning about the value at `loc`, or about the key itself if `at_key` is true.

    `source_loc` is the location in the document if it differs from `loc`, because a profile added the value.
    """

    loc: Loc
    message: str
    at_key: bool = False
    source_loc: Loc | None = None

    @property
    def document_loc(self) -> Loc:
        """The location in the document as the user wrote it."""
        return self.loc if self.source_loc is None else self.source_loc


class LocatedMapping(dict[str, Any]):
    """A mapping of a file. For each key in order, `marks` holds two marks: one of the key and one of its value."""

    __slots__ = ("file", "mark", "marks")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.marks = array("Q")

    def __repr__(self) -> str:
        return f"LocatedMapping({len(self)} keys)"


class LocatedList(list[Any]):
    """A list of a file. `marks` holds the mark of each value."""

    __slots__ = ("file", "mark", "marks")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.marks = array("Q")

    def __repr__(self) -> str:
        return f"LocatedList({len(self)} values)"


_COLUMN_BITS = 24


def mark_of(line: int, column: int) -> int:
    """Pack line and column (both from 0) into one number, since every value of a file has a mark."""
    return line << _COLUMN_BITS | min(column, (1 << _COLUMN_BITS) - 1)


def line_of(mark: int) -> int:
    """Return the line (from 1) of a mark."""
    return (mark >> _COLUMN_BITS) + 1


def column_of(mark: int) -> int:
    """Return the column (from 1) of a mark."""
    return (mark & ((1 << _COLUMN_BITS) - 1)) + 1


def existing_loc(root: Any, loc: Iterable[str | int]) -> Loc:
    """Return the longest prefix of `loc` that exists in a document."""
    node: Any = root
    existing: list[str | int] = []
    for part in loc:
        if isinstance(node, Mapping) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            break
        existing.append(part)
    return tuple(existing)


def loc_of(root: Any, keys: Iterable[str]) -> Loc:
    """Convert keys to a location, which need not exist. The index of a list becomes a number."""
    loc: list[str | int] = []
    for key in keys:
        part = int(key) if isinstance(root, list) and key.isdecimal() else key
        loc.append(part)
        root = root[part] if existing_loc(root, (part,)) else None
    return tuple(loc)


def mark_at(root: LocatedMapping, loc: Iterable[str | int], *, at_key: bool = False) -> int:
    """Return the mark of the value (with `at_key`: of the key) at `loc`, or of its nearest parent in the file."""
    node: Any = root
    mark = root.mark
    for part in existing_loc(root, loc):
        if isinstance(node, LocatedMapping):
            mark = node.marks[2 * list(node).index(str(part)) + (0 if at_key else 1)]
            node = node[str(part)]
        else:
            mark, node = node.marks[part], node[part]
    return mark


def error_at(root: LocatedMapping, loc: Loc, message: str, *, base: Loc = (), at_key: bool = False) -> ConfigError:
    """Build the error of the value at `loc` under `root`, or of the key itself with `at_key`. `base` leads to `root`.

    If the file lacks the last parts of `loc`, the error points at the nearest parent.
    """
    return error_of(root, Finding(loc, message, at_key), base=base)


def error_of(root: LocatedMapping, finding: Finding, *, base: Loc = ()) -> ConfigError:
    """Build the error of a finding in the mapping `root`. `base` leads to `root`."""
    mark = mark_at(root, finding.document_loc, at_key=finding.at_key)
    return ConfigError(root.file, line_of(mark), column_of(mark), format_loc((*base, *finding.loc)), finding.message)


def format_loc(loc: Sequence[str | int]) -> str:
    """Format a location as `integrations.crm.methods[0]`, with quotes around a key that has dots.

    A key with other characters becomes `?`: in `{password:abc}`, which lacks a space, the secret is part of the key.
    """
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _PLAIN_KEY.fullmatch(part) else f'"{part}"' if _NAME_KEY.fullmatch(part) else "?"
            text += f".{name}" if text else name
    return text
