r"""A document within the document, such as the body of a login or the claims of a token, as rows of path and value.

A path is the names that lead to a value, with dots between them; a number is the place in a list. `\` makes a dot, a
number or `\` a part of a name. Every document has rows, and rows that are sent back unchanged are that document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sidekey.admin.console.form.rows import Row, TypedMapping, row_id, stored_in
from sidekey.admin.console.form.typed import BREAK, Sent, flag_in, number_in, rows_in, secret_in
from sidekey.credentials.fields import is_kept
from sidekey.credentials.tree import DEEPEST
from sidekey.settings.stored.document import pointer

_LONGEST_INDEX: Final = 4

Place = tuple[str | int, ...]


def path_of(place: Place) -> str:
    """The path of a place."""
    return ".".join(map(_escaped, place))


def _escaped(part: str | int) -> str:
    if isinstance(part, int):
        return str(part)
    text = part.replace("\\", "\\\\").replace(".", "\\.")
    return f"\\{text}" if _is_index(text) else text


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit()


def place_of(path: str) -> Place:
    """The place that a path leads to. Raises ValueError."""
    place = tuple(_parts(path))
    # An empty path is one as well: then the row has a value, and no path.
    if "" in place:
        raise ValueError("must be names with a dot between them, such as user.name")
    if _is_index(path.partition(".")[0]):
        raise ValueError("must begin with a name: write \\ before a number that is a name")
    if len(place) > DEEPEST:
        raise ValueError(f"must have at most {DEEPEST} names and numbers")
    return place


def _parts(path: str) -> Iterator[str | int]:
    text, escaped = "", False
    characters = iter(f"{path}.")
    for each in characters:
        if each == "\\":
            text, escaped = text + next(characters), True
        elif each != ".":
            text += each
        elif _is_index(text) and not escaped:
            if len(text) > _LONGEST_INDEX:
                raise ValueError("must have a smaller number for a place in a list")
            yield int(text)
            text = ""
        else:
            yield text
            text, escaped = "", False
    if text:
        raise ValueError("must not end with a \\ that stands before nothing")


def shown_tree(value: Any, where: str) -> list[Row]:
    """The rows of a document; none where it is no mapping. `where` is its pointer."""
    leaves = _leaves(value, ()) if isinstance(value, Mapping) else ()
    return [_shown(number, place, leaf, where) for number, (place, leaf) in enumerate(leaves)]


def _leaves(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Mapping) and (not place or (value and not _is_secret(value))):
        for name, each in value.items():
            yield from _leaves(each, (*place, name))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _leaves(each, (*place, index))
    else:
        yield place, value


def _is_secret(value: Mapping[str, Any]) -> bool:
    """Whether it is a secret that is stored, or that was sent: no public mapping of a stored document looks so."""
    return is_kept(value) or [*value] == ["value"]


def _shown(number: int, place: Place, value: Any, where: str) -> Row:
    kind, text = _kind_of(value)
    path = path_of(place)
    return Row(
        name=path,
        kind=kind,
        value=text,
        stored=stored_in(value),
        number=number,
        pointer=f"{where}{pointer(place)}",
        was=path,
        row=row_id(value),
    )


def _kind_of(value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return "flag", "true" if value else "false"
    if isinstance(value, int | float):
        return "number", str(value)
    if isinstance(value, list):
        return "list", ""
    if isinstance(value, Mapping):
        return "secret" if _is_secret(value) else "mapping", ""
    return "text", "" if value is None else str(value)


def read_tree(where: str, sent: Sent, former: Any) -> TypedMapping | None:
    """The document that rows say; None: there are none. What is wrong with a row is said in it.

    A number only says the order within a list: where one is left out, the others move up.
    """
    stored = _Stored(former)
    root = _Branch()
    rows: list[Row] = []
    for number in rows_in(sent, where, "name"):
        row = _sent_row(where, number, sent, stored)
        if row.name or row.value:
            rows.append(_put(root, row, where, sent, stored))
    places: dict[int, Place] = {}
    document = root.value((), places)
    placed = [_placed(each, where, places) for each in rows]
    return TypedMapping(document, placed) if rows or former == {} else None


def _placed(row: Row, where: str, places: Mapping[int, Place]) -> Row:
    return replace(row, pointer=f"{where}{pointer(places[row.number])}") if row.number in places else row


class _Stored:
    """What is stored: values by their paths, secrets in lists by their row IDs."""

    def __init__(self, former: Any) -> None:
        leaves = list(_leaves(former, ())) if isinstance(former, Mapping) else []
        self._by_path: Final = {path_of(place): value for place, value in leaves}
        self._by_row: Final = {row: value for _, value in leaves if (row := row_id(value))}

    def of(self, row: Row) -> Any:
        """What a row was shown with; None where there is no such thing any more."""
        return self._by_row.get(row.row) if row.row else self._by_path.get(row.was)


def _sent_row(where: str, number: int, sent: Sent, stored: _Stored) -> Row:
    base = f"{where}#{number}"
    was = sent.get(f"{base}#was", "")
    name = sent.get(f"{base}#name", "")
    row = Row(
        # A name may begin or end with spaces; what is typed does not.
        name=name if name == was else name.strip(),
        kind=sent.get(f"{base}#kind", ""),
        value=sent.get(f"{base}#value", ""),
        number=number,
        was=was,
        row=sent.get(f"{base}#row", ""),
    )
    kept = stored_in(stored.of(row))
    if kept is not None and sent.get(f"{base}#value#do") == "keep":
        # A secret that is kept stays one: no choice beside it must lose it.
        return replace(row, kind="secret", value="", stored=kept)
    return replace(row, stored=kept if row.kind == "secret" else None)


@dataclass(slots=True)
class _Leaf:
    value: Any
    number: int


@dataclass(slots=True)
class _Branch:
    """What is below a place, by names, or by the numbers of a list."""

    children: dict[str | int, _Branch | _Leaf] = field(default_factory=dict)

    def put(self, place: Place, leaf: _Leaf) -> None:
        """Put a value at a place below. Raises ValueError where something else is there; then nothing is changed."""
        if any(type(each) is not type(place[0]) for each in self.children):
            raise ValueError("must not have numbers of a list and names in one place")
        there = self.children.get(place[0])
        if len(place) == 1:
            if there is not None:
                raise ValueError("must not be there twice" if isinstance(there, _Leaf) else "has others below it")
            self.children[place[0]] = leaf
        elif isinstance(there, _Leaf):
            raise ValueError(f"must not be below {path_of(place[:1])}, which has a value of its own")
        else:
            below = _Branch() if there is None else there
            below.put(place[1:], leaf)
            self.children[place[0]] = below

    def value(self, place: Place, places: dict[int, Place]) -> Any:
        """The mapping or list; `places` gets where each row has its value in the end."""
        if self.children and all(isinstance(each, int) for each in self.children):
            ordered = [self.children[key] for key in sorted(self.children, key=int)]
            return [_value(each, (*place, index), places) for index, each in enumerate(ordered)]
        return {str(name): _value(each, (*place, name), places) for name, each in self.children.items()}


def _value(child: _Branch | _Leaf, place: Place, places: dict[int, Place]) -> Any:
    if isinstance(child, _Leaf):
        places[child.number] = place
        return child.value
    return child.value(place, places)


def _put(root: _Branch, row: Row, where: str, sent: Sent, stored: _Stored) -> Row:
    """Put what a row says into the document; the row, with what is wrong with it."""
    errors: list[str] = []
    try:
        value = _typed(row, f"{where}#{row.number}#value", sent, stored.of(row))
    except ValueError as error:
        errors.append(f"the value {error}")
        value = ""
    try:
        root.put(place_of(row.name), _Leaf(value, row.number))
    except ValueError as error:
        errors.append(f"the path {error}")
    # What is secret is not shown again.
    return replace(row, value="" if row.kind == "secret" else row.value, errors=tuple(errors))


def _typed(row: Row, name: str, sent: Sent, former: Any) -> Any:
    """The value of a row. Raises ValueError."""
    text = row.value
    if row.kind == "secret":
        return secret_in(sent, name, former) or {"value": ""}
    if former is not None:
        kind, shown = _kind_of(former)
        # A text of several lines is shown in one.
        if (row.kind, BREAK.sub("", text)) == (kind, BREAK.sub("", shown)):
            return former
    if row.kind == "number":
        return _one(number_in(text.strip()), "must be a number, such as 5 or 0.5")
    if row.kind == "flag":
        return _one(flag_in(text.strip()), "must be true or false")
    return {"list": [], "mapping": {}}.get(row.kind, text)


def _one(value: float | None, reason: str) -> float:
    if value is None:
        raise ValueError(reason)
    return value
