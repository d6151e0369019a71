"""A form with what is in it, for a template: what is stored, or what was sent and refused; never a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.fields import Field
from sidekey.admin.console.form.rows import Row, RowIndex, TypedList, TypedMapping, is_at, spared, stored_in
from sidekey.admin.console.form.secret_rows import shown_secrets
from sidekey.admin.console.form.trees import shown_tree
from sidekey.credentials.fields import mentions_private_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A field with its value as text. `stored` is what a secret or a certificate reads as; `errors` stand beside it."""

    field: Field
    value: str = ""
    checked: bool = False
    source: str = ""
    stored: Mapping[str, Any] | None = None
    rows: tuple[Row, ...] = ()
    parts: tuple[Filled, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def is_set(self) -> bool:
        """Whether it says anything but its default."""
        rows = any(row.name for row in self.rows)
        return bool(self.value or self.stored or rows or any(each.is_set for each in self.parts)) or (
            self.field.widget == "flag" and self.checked is not bool(self.field.default)
        )

    @property
    def is_wrong(self) -> bool:
        """Whether something is said beside it, or beside a part of it."""
        return bool(self.errors or any(row.errors for row in self.rows)) or any(each.is_wrong for each in self.parts)


def fill(fields: Iterable[Field], document: Mapping[str, Any], errors: Sequence[ItemError] = ()) -> tuple[Filled, ...]:
    """Fields with what a document says; errors whose pointer no field is nearer to stand at the nearest."""
    return tuple(_filled(field, document.get(field.key), errors) for field in fields)


def placed(filled: Sequence[Filled], places: Iterable[str]) -> list[str]:
    """Where a form shows what is at each of these pointers: a row by its number, else the pointer."""
    indexes: dict[str, RowIndex] = {}
    return [_placed(filled, where, indexes) for where in places]


def _placed(filled: Iterable[Filled], where: str, indexes: dict[str, RowIndex]) -> str:
    for each in filled:
        pointer = each.field.pointer
        if is_at(where, pointer):
            if pointer not in indexes:
                indexes[pointer] = RowIndex(each.rows, pointer)
            row = indexes[pointer].row_at(where)
            return _placed(each.parts, where, indexes) if row is None else f"{pointer}#{row.number}"
    return where


def unplaced(fields: Iterable[Field], errors: Iterable[ItemError]) -> list[ItemError]:
    """The errors of what a form has no field for."""
    pointers = [each.pointer for field in fields for each in (field, *field.walk())]
    return [each for each in errors if not any(is_at(each.pointer, pointer) for pointer in pointers)]


def _filled(field: Field, value: Any, errors: Sequence[ItemError]) -> Filled:
    own = [each for each in errors if is_at(each.pointer, field.pointer)]
    if field.widget == "group":
        raw = parts_of(field, value)
        inner = [part.pointer for part in field.parts]
        own = [each for each in own if not any(is_at(each.pointer, pointer) for pointer in inner)]
        return Filled(field=field, parts=fill(field.parts, raw, errors), errors=_texts(own))
    said = _texts(own)
    match field.widget:
        case "secret":
            return Filled(field=field, stored=stored_in(value), errors=said)
        case "pem":
            return _pem(field, value, said)
        case "rows":
            rows = [row_of(name, each) for name, each in value.items()] if isinstance(value, Mapping) else []
            return Filled(field=field, rows=tuple(spared(rows)), errors=said)
        case "tree" | "secrets":
            return _rows(field, value, own)
        case "flag":
            checked = bool(field.default) if value is None else value is True
            return Filled(field=field, checked=checked, errors=said)
        case "lines":
            items = value if isinstance(value, list) else [] if value is None else [value]
            joined = (", " if field.key == "tags" else "\n").join(map(str, items))
            return Filled(field=field, value=joined, errors=said)
        case _:
            return Filled(field=field, value="" if value is None else str(value), errors=said)


def _rows(field: Field, value: Any, errors: Sequence[ItemError]) -> Filled:
    """Rows, each with what is wrong with it."""
    shown = shown_tree if field.widget == "tree" else shown_secrets
    typed = isinstance(value, TypedMapping | TypedList)
    rows = value.rows if typed else shown(value, field.pointer)
    index = RowIndex(rows, field.pointer)
    of: dict[int | None, list[ItemError]] = {}
    for each in errors:
        row = index.row_at(each.pointer)
        of.setdefault(None if row is None else row.number, []).append(each)
    found = [replace(row, errors=_texts(of.get(row.number, ()))) for row in rows]
    return Filled(field=field, rows=tuple(spared(found)), errors=_texts(of.get(None, ())))


def parts_of(field: Field, value: Any) -> Mapping[str, Any]:
    """What the parts of a group are filled from."""
    if isinstance(value, str) and field.parts:
        # A word that stands for an object of which it is the first key.
        return {field.parts[0].key: value}
    return value if isinstance(value, Mapping) else {}


def _texts(errors: Iterable[ItemError]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.detail for each in errors))


def _pem(field: Field, value: Any, errors: tuple[str, ...]) -> Filled:
    stored = stored_in(value)
    if isinstance(value, str) and value in field.choices:
        return Filled(field=field, source=value, errors=errors)
    if isinstance(value, str):
        return Filled(field=field, source="text", value=_public(value), errors=errors)
    if isinstance(value, Mapping) and "inline" in value:
        return Filled(field=field, source="inline", value=_public(str(value["inline"])), errors=errors)
    by_url = isinstance(value, Mapping) and "url" in value
    typed = next(each for each in field.sources if each != "url")
    source = "url" if by_url else "" if stored is None else typed
    return Filled(field=field, source=source, stored=stored, errors=errors)


def _public(pem: str) -> str:
    """PEM that is public; nothing of a key that was put where a certificate belongs."""
    return "" if mentions_private_key(pem) else pem


def row_of(name: str, value: Any) -> Row:
    """A row with a name and its value."""
    if isinstance(value, Mapping):
        secret = value.get("secret", value)
        return Row(name=name, kind="secret", prefix=str(value.get("prefix", "")), stored=stored_in(secret))
    if isinstance(value, bool):
        return Row(name=name, kind="flag", value="true" if value else "false")
    if isinstance(value, int | float):
        return Row(name=name, kind="number", value=str(value))
    return Row(name=name, kind="text", value="" if value is None else str(value))
