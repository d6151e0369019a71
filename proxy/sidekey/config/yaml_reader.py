"""Read the YAML of a config file or a request body into mappings and lists that remember lines and columns.

Plain scalars have fewer types than in YAML 1.2's core schema: true, false, null, and integers and floats in plain
decimal. `off`, `no`, `on`, dates and numbers with a leading zero stay text. Keys are always text. Tags, merge keys and
several documents in a file are errors, and aliases are bounded.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from sidekey.config.errors import (
    MAX_ERRORS,
    ConfigError,
    LocatedList,
    LocatedMapping,
    format_loc,
    line_of,
    mark_of,
    more_errors,
)
from sidekey.config.yaml_errors import explain

# The C loader if PyYAML was built with libyaml. Both loaders produce the same events.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

MAX_DEPTH = 32
MAX_VALUES = 2_000_000
"""Maximum number of values in a file. The value of an alias counts each time."""

MAX_ALIASED_VALUES = 10_000
"""Maximum number of values that aliases expand to, or the number of characters if the file has more.

This stops "billion laughs": the cost of a file grows only with its length.
"""

_TOO_MANY_ALIASED = "aliases must stand for at most {} values in this file: write out what is repeated, or less of it"
_NO_ALIASES = "aliases are not supported here: write out what is repeated"

_SLICE = 64 << 10
"""Characters per search. A search holds the interpreter, which a reload shares with the data plane."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+")
_WORDS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    "null": None,
    "Null": None,
    "NULL": None,
    "~": None,
    "": None,
}
_TEXT_TAG = "tag:yaml.org,2002:str"


class Limits(NamedTuple):
    """Limits of a document. Errors about an empty document, or one that is not a mapping, suggest `first_line`."""

    values: int
    aliases: bool
    first_line: str


_CONFIG_FILE = Limits(MAX_VALUES, aliases=True, first_line="version: 1")


class Malformed(Exception):
    """The file cannot be parsed. `error` has the location and the reason."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(error)
        self.error = error


def parse(file: str, data: bytes, limits: Limits = _CONFIG_FILE) -> tuple[LocatedMapping, list[ConfigError]]:
    """Return the top-level mapping, and an error for each duplicate key. Raises Malformed."""
    text = _decode(file, data)
    reader = _Reader(file, text, limits)
    try:
        return reader.read_document(), reader.errors
    except yaml.MarkedYAMLError as error:
        (line, column), message = explain(text, error, _Loader(text))
        raise Malformed(ConfigError(file, line + 1, column + 1, "", message)) from None


def _decode(file: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text_before = data[: error.start].decode("utf-8", "replace")
        raise Malformed(_error_after(file, text_before, "must be UTF-8")) from None
    for start in range(0, len(text), _SLICE):
        match = _UNPRINTABLE.search(text, start, start + _SLICE)
        if match is not None:
            raise Malformed(
                _error_after(file, text[: match.start()], "must not contain a control character: remove it")
            )
    return text


def _error_after(file: str, text_before: str, message: str) -> ConfigError:
    return ConfigError(file, text_before.count("\n") + 1, len(text_before) - text_before.rfind("\n"), "", message)


class _Reader:
    """Builds values from parser events, without a tree of nodes.

    A `mark` is a number from `mark_of`. The `start_mark` of an event is an object of PyYAML.
    """

    def __init__(self, file: str, text: str, limits: Limits) -> None:
        self.errors: list[ConfigError] = []
        self._duplicates = 0
        self._file = file
        self._limits = limits
        self._next = _Loader(text).get_event
        # The value of each anchor, its mark, and the number of values in it.
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        # One object for all occurrences of a key, to save memory.
        self._keys: dict[str, str] = {}
        self._path: list[str | int] = []
        self._value_count = 0
        self._aliased_count = 0
        self._max_aliased = max(MAX_ALIASED_VALUES, len(text))

    def read_document(self) -> LocatedMapping:
        """Read the whole stream, which must have one document."""
        self._next()  # The start of the stream.
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            # This event starts the document.
            event = self._next()
        if isinstance(event, yaml.StreamEndEvent) or (isinstance(event, yaml.ScalarEvent) and not event.value):
            raise Malformed(
                ConfigError(self._file, 1, 1, "", f"must not be empty: begin with {self._limits.first_line}")
            )
        value, _ = self._read_value(event, 0)
        if not isinstance(value, LocatedMapping):
            raise self._malformed(event, f"must be a mapping: begin with {self._limits.first_line}")
        self._next()  # The end of the document.
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._malformed(event, "must contain one document: remove --- and what follows it")
        return value

    def _malformed(self, event: Any, message: str) -> Malformed:
        mark = event.start_mark
        return Malformed(ConfigError(self._file, mark.line + 1, mark.column + 1, "", message))

    def _read_value(self, event: Any, depth: int) -> tuple[Any, int]:
        """Read the value that begins with `event`, and return it with its mark."""
        start = event.start_mark
        mark = mark_of(start.line, start.column)
        values_before = self._value_count
        self._value_count += 1
        if self._value_count > self._limits.values:
            raise self._malformed(event, f"must contain at most {self._limits.values} values")
        event_type = event.__class__
        if event_type is yaml.AliasEvent:
            return self._read_alias(event)
        if (
            event.tag is not None
            and event.tag != "!"
            and not (event.tag == _TEXT_TAG and event_type is yaml.ScalarEvent)
        ):
            raise self._malformed(event, "tags (!...) are not supported: put text in quotes")
        value: Any
        if event_type is yaml.ScalarEvent:
            value = _scalar(event.value) if event.implicit[0] else event.value
        elif depth >= MAX_DEPTH:
            raise self._malformed(event, f"must not be nested deeper than {MAX_DEPTH} levels")
        elif event_type is yaml.MappingStartEvent:
            value = self._read_mapping(mark, depth + 1)
        else:
            value = self._read_list(mark, depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, mark, self._value_count - values_before
        return value, mark

    def _read_alias(self, event: Any) -> tuple[Any, int]:
        if not self._limits.aliases:
            raise self._malformed(event, _NO_ALIASES)
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise self._malformed(
                event, "this alias has no anchor above it; a text that begins with * must be in quotes"
            )
        value, mark, count = anchored
        self._value_count += count
        self._aliased_count += count
        if self._aliased_count > self._max_aliased:
            raise self._malformed(event, _TOO_MANY_ALIASED.format(self._max_aliased))
        return value, mark

    def _read_mapping(self, mark: int, depth: int) -> LocatedMapping:
        table = LocatedMapping(self._file, mark)
        marks = table.marks
        event = self._next()
        while event.__class__ is not yaml.MappingEndEvent:
            if event.__class__ is not yaml.ScalarEvent:
                raise self._malformed(event, "a key must be a text; a text that begins with { or [ must be in quotes")
            key = self._keys.setdefault(event.value, event.value)
            start: Any = event.start_mark
            self._path.append(key)
            value, value_mark = self._read_value(self._next(), depth)
            if key in table:
                self._add_duplicate(start, table, key)
            else:
                table[key] = value
                marks.append(mark_of(start.line, start.column))
                marks.append(value_mark)
            self._path.pop()
            event = self._next()
        return table

    def _add_duplicate(self, start: Any, table: LocatedMapping, key: str) -> None:
        # Searching for the first occurrence takes time in proportion to the number of keys.
        self._duplicates += 1
        if self._duplicates <= MAX_ERRORS:
            first = line_of(table.marks[2 * list(table).index(key)])
            message = f"this key is given twice: remove one; the first is in line {first}"
        else:
            del self.errors[MAX_ERRORS:]
            message = more_errors(self._duplicates - MAX_ERRORS)
        self.errors.append(ConfigError(self._file, start.line + 1, start.column + 1, format_loc(self._path), message))

    def _read_list(self, mark: int, depth: int) -> LocatedList:
        items = LocatedList(self._file, mark)
        event = self._next()
        while event.__class__ is not yaml.SequenceEndEvent:
            self._path.append(len(items))
            value, value_mark = self._read_value(event, depth)
            self._path.pop()
            items.append(value)
            items.marks.append(value_mark)
            event = self._next()
        return items


def _scalar(text: str) -> Any:
    """Return the typed value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
