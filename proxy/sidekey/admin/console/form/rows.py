"""Rows of a form: one for each value of a mapping, of a document within the document, or of a list of secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_READ: Final = dict.fromkeys(("updated_at", "updated_by", "subject", "issuer", "not_after"))

SPARE: Final = 2
"""Empty rows that a form has behind those that are filled, for whoever has no script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: a name, a place or a path, and a public value, or what is known of a secret one.

    `number` is in the names of its inputs. `pointer` is where the document has its value, `was` where what is stored
    has it, and `row` is the lasting ID of a secret in a list.
    """

    name: str = ""
    kind: str = ""
    value: str = ""
    prefix: str = ""
    stored: Mapping[str, Any] | None = None
    number: int = 0
    pointer: str = ""
    was: str = ""
    row: str = ""
    errors: tuple[str, ...] = ()


class TypedMapping(dict[str, Any]):
    """A mapping of a document that was typed, with the rows that it was typed into: also those that it cannot say."""

    def __init__(self, value: Mapping[str, Any], rows: Sequence[Row]) -> None:
        super().__init__(value)
        self.rows: Final = tuple(rows)


class TypedList(list[Any]):
    """A list of a document that was typed, with the rows that it was typed into."""

    def __init__(self, value: Sequence[Any], rows: Sequence[Row]) -> None:
        super().__init__(value)
        self.rows: Final = tuple(rows)


def stored_in(value: Any) -> Mapping[str, Any] | None:
    """What a secret or a certificate reads as; None where it is none that is stored."""
    if isinstance(value, Mapping) and "url" in value:
        # The URL is what is sealed: it may hold a token.
        value = value["url"]
    if not isinstance(value, Mapping) or value.get("set") is not True:
        return None
    return {**_READ, **value}


def row_id(value: Any) -> str:
    """The lasting ID of a secret in a list; empty where it has none."""
    found = value.get("row") if isinstance(value, Mapping) else None
    return found if isinstance(found, str) else ""


def is_at(where: str, pointer: str) -> bool:
    """Whether a place is at a pointer, or below it; a row is below its field."""
    return where == pointer or where.startswith((f"{pointer}/", f"{pointer}#"))


class RowIndex:
    """The rows of a field by places: there are as many errors as rows, and each has its row."""

    def __init__(self, rows: Sequence[Row], field: str) -> None:
        self._field: Final = field
        self._own: Final = {f"{field}#{each.number}": each for each in rows}
        self._at: Final = {each.pointer: each for each in reversed(rows) if each.pointer}
        self._below: Final[dict[str, Row]] = {}
        for each in rows:
            for above in _above(each.pointer):
                self._below.setdefault(above, each)

    def row_at(self, where: str) -> Row | None:
        """The row that a place is about: its own, the nearest above it, or the first of those below it."""
        if where in self._own:
            return self._own[where]
        for each in (where, *_above(where)):
            if each in self._at:
                return self._at[each]
        return None if where == self._field else self._below.get(where)


def _above(where: str) -> Iterator[str]:
    """The places that a place is below, the nearest first."""
    while (end := max(where.rfind("/"), where.rfind("#"))) > 0:
        where = where[:end]
        yield where


def spared(rows: Sequence[Row]) -> list[Row]:
    """Rows with empty ones behind them."""
    following = max((each.number for each in rows), default=-1) + 1
    return [*rows, *(Row(number=following + at) for at in range(SPARE))]
