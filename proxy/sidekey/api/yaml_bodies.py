"""Parse YAML request bodies, and add line numbers to errors. Runs in a thread."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sidekey.api.errors import ApiProblem, ItemError, limit_errors
from sidekey.config import yaml_reader
from sidekey.config.errors import (
    MORE_ERRORS,
    ConfigError,
    LocatedList,
    LocatedMapping,
    column_of,
    existing_loc,
    line_of,
    loc_of,
    mark_at,
)
from sidekey.config.stored.document import MAX_SIZE, MAX_VALUES, MalformedError, parse, pointer_keys, value_at

_LIMITS: Final = yaml_reader.Limits(MAX_VALUES, aliases=False, first_line="a key, such as auth")


class YamlBody(NamedTuple):
    """A parsed body: the value that equivalent JSON has, and the table with the positions of its values."""

    value: dict[str, Any]
    table: LocatedMapping


def read_yaml(data: bytes) -> YamlBody:
    """Parse a body like a config file. The limits of a JSON body apply to its value. Raises ApiProblem."""
    try:
        table, errors = yaml_reader.parse("", data, _LIMITS)
    except yaml_reader.Malformed as malformed:
        raise _malformed([malformed.error]) from None
    if errors:
        raise _malformed(errors)
    as_json = json.dumps(table, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if len(as_json) > MAX_SIZE:
        raise ApiProblem("too_large", f"a body must be at most {MAX_SIZE >> 10} KiB as JSON")
    try:
        return YamlBody(parse(as_json), table)
    except MalformedError as error:
        raise ApiProblem("malformed", f"the body {error}") from None


def _malformed(errors: Iterable[ConfigError]) -> ApiProblem:
    items = [ItemError("", error.message, error.line, error.column) for error in errors]
    return ApiProblem("malformed", "the body is not valid YAML: see errors", errors=limit_errors(items))


def with_lines(errors: Iterable[ItemError], table: LocatedMapping | None) -> tuple[ItemError, ...]:
    """Add line and column to each error, and sort by them. A missing key gets the line of its mapping."""
    if table is None:
        return tuple(errors)
    return tuple(sorted((_with_line(error, table) for error in errors), key=_order))


def _order(error: ItemError) -> tuple[bool, int, int]:
    return error.detail == MORE_ERRORS, error.line or 0, error.column or 0


def _with_line(error: ItemError, table: LocatedMapping) -> ItemError:
    loc = existing_loc(table, loc_of(table, pointer_keys(error.pointer)))
    # The value of a block mapping or list begins on the line after its key.
    is_block = isinstance(value_at(table, error.pointer), LocatedMapping | LocatedList) or len(
        loc
    ) < error.pointer.count("/")
    mark = mark_at(table, loc, at_key=is_block)
    return error._replace(line=line_of(mark), column=column_of(mark))
