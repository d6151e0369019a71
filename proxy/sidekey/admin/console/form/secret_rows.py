"""The secrets of a list as rows, each with its place in the list as a number."""

from __future__ import annotations

from typing import Any, Final

from sidekey.admin.console.form.rows import Row, TypedList, TypedMapping, row_id, stored_in
from sidekey.admin.console.form.typed import Sent, rows_in, secret_in, whole_in

_LAST: Final = 10**6
"""The place of a row that says none."""


def shown_secrets(value: Any, where: str) -> list[Row]:
    """The rows of a list, or of the one secret in its place; `where` is its pointer."""
    return [
        Row(
            name=str(index + 1),
            stored=stored_in(each),
            number=index,
            pointer=_pointer(where, index, value),
            was=str(index),
            row=row_id(each),
        )
        for index, each in enumerate(_items(value))
    ]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _pointer(where: str, index: int, value: Any) -> str:
    return f"{where}/{index}" if isinstance(value, list) else where


def read_secrets(where: str, sent: Sent, former: Any) -> TypedList | TypedMapping | None:
    """What rows say, in the order of their places; None: no secret is there. One that is alone is no list of one."""
    rows: list[tuple[int, Row, Any]] = []
    for number in rows_in(sent, where, "name"):
        base = f"{where}#{number}"
        row = Row(
            name=sent[f"{base}#name"], number=number, was=sent.get(f"{base}#was", ""), row=sent.get(f"{base}#row", "")
        )
        stored = _stored(former, row)
        secret = secret_in(sent, f"{base}#value", stored)
        if secret is not None:
            place = whole_in(row.name.strip())
            rows.append((_LAST if place is None else place, row, secret))
    rows.sort(key=lambda each: (each[0], each[1].number))
    if not rows:
        return None
    found = [secret for _, _, secret in rows]
    value = found if len(found) > 1 or isinstance(former, list) else found[0]
    shown = [
        Row(
            name=str(index + 1),
            stored=stored_in(_stored(former, row)),
            number=row.number,
            pointer=_pointer(where, index, value),
            was=row.was,
            row=row.row,
        )
        for index, (_, row, _) in enumerate(rows)
    ]
    return TypedList(value, shown) if isinstance(value, list) else TypedMapping(value, shown)


def _stored(former: Any, row: Row) -> Any:
    """What a row was shown with; None where there is no such secret any more."""
    items = _items(former)
    if row.row:
        return next((each for each in items if row_id(each) == row.row), None)
    index = whole_in(row.was)
    return items[index] if index is not None and 0 <= index < len(items) and not row_id(items[index]) else None
