"""The parameters of presets: what a caller may say, read strictly from JSON and judged all at once.

Numbers keep the spelling they came with, so that none is rounded, and none costs what its digits would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

DEPTH: Final = 32
"""Levels to which parameters and bodies may be nested."""
LONGEST_NUMBER: Final = 64
MOST_ERRORS: Final = 64
"""Errors that a response lists."""

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
TYPES: Final = ("text", "integer", "number", "boolean", "list", "object")
_WORDS: Final = {
    "text": "must be a text",
    "integer": "must be a whole number",
    "number": "must be a number",
    "boolean": "must be true or false",
    "list": "must be a list",
    "object": "must be an object",
}
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_WHOLE: Final = re.compile(r"-?[0-9]+")


class Number:
    """A number as it is spelled."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text: Final = text

    def __repr__(self) -> str:
        return "Number(...)"

    @property
    def is_whole(self) -> bool:
        """Whether it has neither fraction nor exponent."""
        return _WHOLE.fullmatch(self.text) is not None


Values = Mapping[str, object]
"""Values by name: None, bool, str, Number, and lists and dicts of them."""


class MalformedJson(ValueError):
    """Not the JSON that is accepted; the message says what must be true."""


def _number(text: str) -> Number:
    if len(text) > LONGEST_NUMBER:
        raise MalformedJson(f"numbers must have at most {LONGEST_NUMBER} characters")
    return Number(text)


def _constant(_: str) -> NoReturn:
    raise MalformedJson("must not contain NaN or Infinity, which are not JSON (RFC 8259 6)")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Which of the two counts differs from parser to parser (RFC 8259 4).
        raise MalformedJson("must not contain a key twice")
    return found


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_number, parse_float=_number, parse_constant=_constant
)


def read_json(data: bytes) -> object:
    """A JSON text (RFC 8259). Raises MalformedJson, also for what JSON leaves to chance."""
    try:
        value: object = _DECODER.decode(data.decode())
    except MalformedJson:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise MalformedJson("must be valid JSON in UTF-8") from None
    if data.count(b"[") + data.count(b"{") > DEPTH:
        _check_depth(value)
    if b"\\u" in data:
        _check_characters(value)
    return value


def _too_deep() -> MalformedJson:
    return MalformedJson(f"must not be nested deeper than {DEPTH} levels")


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(DEPTH):
        level = [inner for each in level for inner in _inner(each)]
    if any(isinstance(each, list | dict) for each in level):
        raise _too_deep()


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, list):
        return value
    return value.values() if isinstance(value, dict) else ()


def _check_characters(value: object) -> None:
    """Refuse halves of surrogate pairs: they are no characters, and have no UTF-8."""
    level: list[object] = [value]
    while level:
        for each in level:
            texts = each if isinstance(each, dict) else [each] if isinstance(each, str) else ()
            if any(_SURROGATE.search(text) for text in texts):
                raise MalformedJson("must not contain lone surrogates")
        level = [inner for each in level for inner in _inner(each)]


class Parameter:
    """One parameter: its type, its default (None: it is required), and what else its value must be.

    `max_length` counts characters of a text and entries of a list; 0: any. `one_of` are all values that it may have.
    """

    __slots__ = ("default", "max_length", "name", "one_of", "type")

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - as the config calls it
        default: object | None = None,
        *,
        max_length: int = 0,
        one_of: tuple[object, ...] = (),
    ) -> None:
        self.name: Final = name
        self.type: Final = type
        self.default: Final = default
        self.max_length: Final = max_length
        self.one_of: Final = one_of

    @property
    def is_structure(self) -> bool:
        """Whether its value has no text."""
        return self.type in ("list", "object")

    def error(self, value: object) -> str | None:
        """What must be true of a value and is not."""
        if not self._is_of_type(value):
            return _WORDS[self.type]
        if self.max_length and isinstance(value, str | list) and len(value) > self.max_length:
            return f"must have at most {self.max_length} {'entries' if self.type == 'list' else 'characters'}"
        if self.one_of and not any(same(value, each) for each in self.one_of):
            return "must be one of the values that the preset allows"
        return None

    def _is_of_type(self, value: object) -> bool:
        kind = self.type
        if kind == "text":
            return isinstance(value, str)
        if kind == "integer":
            return isinstance(value, Number) and value.is_whole
        if kind == "number":
            return isinstance(value, Number)
        if kind == "boolean":
            return isinstance(value, bool)
        return isinstance(value, list if kind == "list" else dict)


def same(one: object, other: object) -> bool:
    """Whether two texts, or two numbers whatever their spelling, are the same."""
    if isinstance(one, Number) and isinstance(other, Number):
        return Decimal(one.text) == Decimal(other.text)
    return isinstance(one, str) and isinstance(other, str) and one == other


def values_of(parameters: Mapping[str, Parameter], payload: bytes) -> tuple[Values, list[tuple[str, str]]]:
    """The values that a caller's JSON object gives, defaults filled in, and every error by its JSON pointer.

    Only values without an error are among the first.
    """
    try:
        given = read_json(payload)
    except MalformedJson as error:
        return {}, [("", f"the parameters {error}")]
    if not isinstance(given, dict):
        return {}, [("", "the parameters must be a JSON object")]
    errors: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    for name, parameter in parameters.items():
        if name in given:
            value = given[name]
            reason = parameter.error(value)
            if reason is None:
                values[name] = value
            else:
                errors.append((f"/{name}", reason))
        elif parameter.default is not None:
            values[name] = parameter.default
        else:
            errors.append((f"/{name}", "is required"))
    for name in given:
        if name not in parameters and len(errors) < MOST_ERRORS:
            # A name that no parameter can have is not repeated: it may be anything.
            errors.append((f"/{name}" if NAME.fullmatch(name) else "", "the preset has no such parameter"))
    return values, errors
