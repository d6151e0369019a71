"""Errors of a config, each with its place, and the places of the values a file held."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

Loc = tuple[str | int, ...]
"""The keys and list indexes that lead to a value."""

Reasons = list[tuple[Loc, str]]
"""Places, each with what is wrong there."""

Kind = Literal["error", "warning", "unreadable", "refused", "absent", "unwritable", "mismatched", "writable"]
"""The kind of a finding. `settings.loaded` says which kinds stop a command.

- `error`: the config is invalid.
- `unreadable`: a secret or a CA file cannot be read.
- `refused`: a client certificate was read, and must not be used.
- `absent`: this machine does not have a source address.
- `unwritable`: the log file cannot be written.
- `mismatched`: a preset cannot be used with its integration.
- `writable`: other users may change a file, or a folder on its path.
"""

MAX_ERRORS: Final = 200
"""Errors of one document that are listed. Finding a remedy for each costs more than finding the error."""

MORE_ERRORS: Final = f"there are more errors than the first {MAX_ERRORS}: correct these first"

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_<*-]{1,64}")
_NAME_KEY = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ConfigError(NamedTuple):
    """One error (or warning). Lines and columns begin at 1; `path` is empty where the whole file is meant."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.path or '(file)'}: {self.message}"


class Finding(NamedTuple):
    """What is wrong with (or should be known of) the value at `loc` in a document, or with `key` the key itself.

    `written` is where the document has what it is about, which a provider profile may have filled in; None: at `loc`.
    """

    loc: Loc
    message: str
    key: bool = False
    written: Loc | None = None

    @property
    def place(self) -> Loc:
        """Where the document has what it is about, or would have it."""
        return self.loc if self.written is None else self.written


class LocatedMapping(dict[str, Any]):
    """A mapping of a file. `spots` holds two marks a key, in the order of the keys: its own and its value's."""

    __slots__ = ("file", "mark", "spots")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.spots = array("Q")

    def __repr__(self) -> str:
        return f"Table({len(self)} keys)"


class Row(list[Any]):
    """A sequence of a file. `spots` holds the mark of each value."""

    __slots__ = ("file", "mark", "spots")

    def __init__(self, file: str, mark: int) -> None:
        super().__init__()
        self.file = file
        self.mark = mark
        self.spots = array("Q")

    def __repr__(self) -> str:
        return f"Row({len(self)} values)"


_COLUMN_BITS = 24


def mark_of(line: int, column: int) -> int:
    """Line and column (both from 0) in one number: marks are kept for every value of a file."""
    return line << _COLUMN_BITS | min(column, (1 << _COLUMN_BITS) - 1)


def line_of(mark: int) -> int:
    """The line (from 1) of a mark."""
    return (mark >> _COLUMN_BITS) + 1


def column_of(mark: int) -> int:
    """The column (from 1) of a mark."""
    return (mark & ((1 << _COLUMN_BITS) - 1)) + 1


def held(root: Any, loc: Iterable[str | int]) -> Loc:
    """As much of `loc` as a document holds."""
    node: Any = root
    found: list[str | int] = []
    for part in loc:
        if isinstance(node, Mapping) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            break
        found.append(part)
    return tuple(found)


def placed(root: Any, keys: Iterable[str]) -> Loc:
    """The place that keys lead to, whether there is something or not: what is an index of a list is a number."""
    found: list[str | int] = []
    for key in keys:
        part = int(key) if isinstance(root, list) and key.isdecimal() else key
        found.append(part)
        root = next(iter([root[part]] if held(root, (part,)) else []), None)
    return tuple(found)


def mark_at(root: LocatedMapping, loc: Iterable[str | int], *, key: bool = False) -> int:
    """The mark of the value (with `key`: of the key) at `loc`, or at as much of it as the file holds."""
    node: Any = root
    mark = root.mark
    for part in held(root, loc):
        if isinstance(node, LocatedMapping):
            mark = node.spots[2 * list(node).index(str(part)) + (0 if key else 1)]
            node = node[str(part)]
        else:
            mark, node = node.spots[part], node[part]
    return mark


def error_at(root: LocatedMapping, loc: Loc, message: str, *, base: Loc = (), key: bool = False) -> ConfigError:
    """The error of the value at `loc` under `root`, or with `key` of the key itself; `base` leads to `root`.

    Where the last parts of `loc` are missing in the file, the place is that of the mapping without them.
    """
    return error_of(root, Finding(loc, message, key), base=base)


def error_of(root: LocatedMapping, finding: Finding, *, base: Loc = ()) -> ConfigError:
    """A finding in the mapping `root` with its place in the file; `base` leads to `root`."""
    mark = mark_at(root, finding.place, key=finding.key)
    return ConfigError(root.file, line_of(mark), column_of(mark), show((*base, *finding.loc)), finding.message)


def show(loc: Sequence[str | int]) -> str:
    """A path as it is printed: `integrations.crm.methods[0]`; a key with dots is quoted.

    A key with further characters is `?`: in `{password:abc}`, where a space is missing, the secret is part of a key.
    """
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.fullmatch(part) else f'"{part}"' if _NAME_KEY.fullmatch(part) else "?"
            text += f".{shown}" if text else shown
    return text
