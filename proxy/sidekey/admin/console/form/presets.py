"""The form of a preset: what its inputs contain for a document, and the document that was typed into them.

What an input shows of a document and sends back unchanged stays as it is in the document, whatever it is: the same can
be written in several ways, and saving must not choose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sidekey.admin.api.problems import ItemError
from sidekey.core.parameters import FORM, JSON
from sidekey.core.preset_parameters import TYPES
from sidekey.core.templates import kind_of
from sidekey.settings.stored.document import MalformedError, parse, pointer

Typed = Mapping[str, str]
"""What inputs contain, by their names: a pointer into the document, or `ROWS#NUMBER#PART`."""

SPARE: Final = 2
"""Empty rows that a form has behind those that are filled, for whoever has no script."""

METHODS: Final = ("POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS")

_TEXTS: Final = ("description", "integration", "method", "url", "content_type")
_KNOWN: Final = frozenset({*_TEXTS, "id", "tags", "headers", "parameters", "body"})
_BREAK: Final = re.compile(r"\r\n?|\n")
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,300})")
_NAME_INPUT: Final = re.compile(r"/[a-z]+#(0|[1-9][0-9]{0,5})#name", re.ASCII)
_PARTS: Final = ("type", "need", "default", "max_length", "one_of")
_ALWAYS: Final = frozenset({"type", "need", "sample"})
"""Parts of a row that say nothing where nothing else is said."""
_ONE_LINE: Final = frozenset({"default"})
"""Parts whose input has one line, though their value may have more."""
_MEASURED: Final = frozenset({"text", "list"})
"""Types that `max_length` is for."""
_LISTED: Final = frozenset({"text", "integer", "number"})
"""Types that `one_of` is for."""
_STRUCTURES: Final = frozenset({"list", "object"})


class InvalidJson(ValueError):
    """A text that is no JSON, with the line where it ceases to be; the message repeats nothing of it."""


def json_in(text: str) -> Any:
    """The value of a JSON text that somebody has typed. Raises InvalidJson."""
    try:
        json.loads(text)
        # Read once more as what is sent to the API is: it is one value now, so that this is one key of an object.
        return parse(f'{{"":{text}}}'.encode())[""]
    except json.JSONDecodeError as error:
        # Its own words are a library's: where it is says more.
        raise InvalidJson(f"line {error.lineno}, column {error.colno}: is not JSON from here on") from None
    except MalformedError as error:
        raise InvalidJson(str(error)) from None
    except RecursionError:
        raise InvalidJson("must not be nested so deeply") from None
    except ValueError:
        raise InvalidJson("must not have a number of so many digits") from None


# What the inputs contain.


def typed_of(document: Mapping[str, Any]) -> dict[str, str]:
    """What the inputs contain for a document, which another version may have written."""
    found = {f"/{key}": _text(document.get(key)) for key in ("id", *_TEXTS)}
    found["/method"] = found["/method"] or METHODS[0]
    tags = document.get("tags")
    found["/tags"] = ", ".join(map(_text, tags)) if isinstance(tags, list) else ""
    for at, (name, value) in enumerate(_items(document.get("headers"))):
        found |= {f"/headers#{at}#name": name, f"/headers#{at}#value": _text(value)}
    for at, (name, each) in enumerate(_items(document.get("parameters"))):
        found |= {f"/parameters#{at}#{part}": text for part, text in {"name": name, **_parameter(each)}.items()}
    body = document.get("body")
    found["/sends"] = "payload" if body is None else "parameters"
    kind = kind_of(found["/content_type"])
    if kind == FORM and isinstance(body, Mapping):
        for at, (name, value) in enumerate(body.items()):
            found |= {f"/body#{at}#name": name, f"/body#{at}#value": _plain(value)}
    found["/body"] = "" if body is None else body if kind != JSON and isinstance(body, str) else _indented(body)
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _indented(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _parameter(raw: Any) -> dict[str, str]:
    each = raw if isinstance(raw, Mapping) else {}
    default, one_of = each.get("default"), each.get("one_of")
    return {
        "type": _text(each.get("type")) or TYPES[0],
        "need": "required" if default is None else "default",
        "default": "" if default is None else _plain(default),
        "max_length": _text(each.get("max_length")),
        "one_of": "\n".join(map(_plain, one_of)) if isinstance(one_of, list) else "",
    }


# The document that was typed.


@dataclass(frozen=True, slots=True)
class Read:
    """A document, and what no document can say: with `errors`, it is not whole."""

    document: dict[str, Any]
    errors: tuple[ItemError, ...]


def read_document(sent: Typed, former: Mapping[str, Any]) -> Read:
    """The document that was typed; `former` is what is stored, empty where it is new."""
    return _Reading(sent, former).read()


class _Reading:
    """Reads one form."""

    def __init__(self, sent: Typed, former: Mapping[str, Any]) -> None:
        self._sent = sent
        self._former = former
        self._before = typed_of(former)
        self._errors: list[ItemError] = []

    def read(self) -> Read:
        found = {key: value for key, value in self._former.items() if key not in _KNOWN}
        if not self._former:
            found["id"] = self._of("/id").strip()
        for key in _TEXTS:
            text = self._of(f"/{key}").strip()
            value = self._former.get(key) if self._same(f"/{key}") else text or None
            if value is not None:
                found[key] = value
        tags = self._tags()
        if tags:
            found["tags"] = tags
        headers = {name: self._header(name, row) for name, row in self._rows("/headers", ("value",))}
        if headers:
            found["headers"] = headers
        if self._of("/sends") == "parameters":
            parameters = {name: self._parameter(name, row) for name, row in self._rows("/parameters", _PARTS)}
            if parameters:
                found["parameters"] = parameters
            found["body"] = self._body()
        # In the order that it is stored in, so that what says the same is the same.
        ordered = {key: found[key] for key in self._former if key in found}
        return Read({**ordered, **found}, tuple(self._errors))

    def _of(self, name: str) -> str:
        return self._sent.get(name, "")

    def _same(self, name: str) -> bool:
        """Whether an input contains what it was shown with; one of one line has lost its ends of lines."""
        return _BREAK.sub("", self._of(name)) == _BREAK.sub("", self._before.get(name, ""))

    def _tags(self) -> Any:
        if self._same("/tags"):
            return self._former.get("tags")
        return [part.strip() for part in re.split(r"[\r\n,]+", self._of("/tags")) if part.strip()]

    def _rows(self, where: str, parts: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The rows that have a name, by it: what their inputs' names begin with."""
        seen: set[str] = set()
        for row in rows_in(self._sent, where):
            key = f"{row}#name"
            shown = key in self._before and self._same(key)
            name = self._before[key] if shown else self._of(key).strip()
            if not name and not shown:
                if any(self._of(f"{row}#{part}").strip() for part in parts if part not in _ALWAYS):
                    self._errors.append(ItemError(where, "a row has a value and no name"))
            elif name in seen:
                self._errors.append(ItemError(f"{where}{pointer((name,))}", "must not be there twice"))
            else:
                seen.add(name)
                yield name, row

    def _header(self, name: str, row: str) -> Any:
        return self._kept("headers", name, f"{row}#value", _text)

    def _kept(self, key: str, name: str, of: str, shown: Any) -> Any:
        """The text of an input, or the value that it shows."""
        text = self._of(of)
        former = self._former.get(key)
        value = former.get(name) if isinstance(former, Mapping) else None
        return value if value is not None and _BREAK.sub("", text) == _BREAK.sub("", shown(value)) else text

    def _parameter(self, name: str, row: str) -> Any:
        typed = {part: _BREAK.sub("\n", self._of(f"{row}#{part}")) for part in _PARTS}
        all_of = self._former.get("parameters")
        former = all_of.get(name) if isinstance(all_of, Mapping) else None
        if former is not None and _as_sent(typed) == _as_sent(_parameter(former)):
            return former
        kind = typed["type"]
        found: dict[str, Any] = {"type": kind}
        if typed["need"] == "default":
            try:
                found["default"] = value_in(kind, typed["default"])
            except InvalidJson as error:
                self._errors.append(ItemError(f"/parameters{pointer((name, 'default'))}", str(error)))
                found["default"] = [] if kind == "list" else {}
        if kind in _MEASURED and (length := typed["max_length"].strip()):
            found["max_length"] = int(length) if _WHOLE.fullmatch(length) else length
        if kind in _LISTED and typed["one_of"].strip():
            found["one_of"] = [value_in(kind, line) for line in typed["one_of"].split("\n") if line.strip()]
        return found

    def _body(self) -> Any:
        kind = kind_of(self._of("/content_type"))
        if kind == FORM:
            return {
                name: self._kept("body", name, f"{row}#value", _plain) for name, row in self._rows("/body", ("value",))
            }
        text = _BREAK.sub("\n", self._of("/body"))
        if kind == kind_of(self._before["/content_type"]) and text == _BREAK.sub("\n", self._before["/body"]):
            kept = self._former.get("body")
            if kept is not None:
                return kept
        if kind != JSON:
            return text
        try:
            return json_in(text)
        except InvalidJson as error:
            self._errors.append(ItemError("/body", str(error)))
            # What any parameters may be filled into, so that nothing is said of those.
            return ""


def _as_sent(parts: Mapping[str, str]) -> dict[str, str]:
    """The parts of a parameter as a browser sends them: an input of one line loses its ends of lines."""
    return {part: _BREAK.sub("" if part in _ONE_LINE else "\n", text) for part, text in parts.items()}


def value_in(kind: str, text: str) -> Any:
    """A value of a type of parameters as somebody types it. Raises InvalidJson.

    A text that is no number, or neither true nor false, stays a text: the API says what must be true.
    """
    if kind in _STRUCTURES:
        return json_in(text)
    plain = text.strip()
    if kind == "boolean":
        return {"true": True, "false": False}.get(plain, text)
    if kind in ("integer", "number"):
        return _number(plain, text)
    return text


def _number(plain: str, text: str) -> Any:
    try:
        found = json_in(plain)
    except InvalidJson:
        return text
    return found if isinstance(found, int | float) and not isinstance(found, bool) else text


# What callers would send.


def samples_of(parameters: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[dict[str, Any], list[ItemError]]:
    """Values for parameters: what was typed for them, by name; for the others examples, where they are required."""
    found: dict[str, Any] = {}
    errors: list[ItemError] = []
    for name, raw in parameters.items():
        each = raw if isinstance(raw, Mapping) else {}
        text = typed.get(name, "")
        if text:
            try:
                found[name] = value_in(str(each.get("type", "text")), text)
            except InvalidJson as error:
                errors.append(ItemError(pointer((name,)), str(error)))
        elif each.get("default") is None:
            found[name] = example_of(name, each)
    return found, errors


def example_of(name: str, parameter: Mapping[str, Any]) -> Any:
    """A value that a parameter may have."""
    one_of = parameter.get("one_of")
    if isinstance(one_of, list) and one_of:
        return one_of[0]
    match parameter.get("type"):
        case "integer":
            return 1
        case "number":
            return 1.5
        case "boolean":
            return True
        case "list":
            return []
        case "object":
            return {}
        case _:
            length = parameter.get("max_length")
            return name[:length] if isinstance(length, int) else name


_PAYLOADS: Final[Mapping[str | None, str]] = {
    JSON: '{"event": "example"}',
    FORM: "event=example",
    "application/xml": "<event/>",
}


def example_payload(content_type: str) -> str:
    """A payload of this Content-Type."""
    return _PAYLOADS.get(kind_of(content_type), "example")


# A form with what is in it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row: what its inputs contain by part, and what is wrong with it. `number` is in the inputs' names."""

    number: int
    parts: Mapping[str, str]
    errors: tuple[str, ...] = ()
    sample: str = ""
    example: str = ""

    @property
    def name(self) -> str:
        """What the row is about."""
        return self.parts.get("name", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetEntries:
    """The form of a preset. `typed` are its inputs, `errors` texts by pointers; `version` None: it is new."""

    typed: Typed
    version: int | None
    headers: tuple[Row, ...]
    parameters: tuple[Row, ...]
    fields: tuple[Row, ...]
    """Of a body that is a form."""
    errors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def as_form(self) -> bool:
        """Whether its body has fields."""
        return kind_of(self.typed.get("/content_type", "")) == FORM


def entries_of(typed: Typed, version: int | None, errors: Sequence[ItemError] = ()) -> PresetEntries:
    """A form with what was typed, or what a document shows, and what is wrong with it."""
    placed = placed_errors(typed, errors)
    by_pointer: dict[str, tuple[str, ...]] = {}
    for each in placed:
        by_pointer[each.pointer] = (*by_pointer.get(each.pointer, ()), each.detail)
    headers, parameters, fields = (
        _shown_rows(typed, where, by_pointer) for where in ("/headers", "/parameters", "/body")
    )
    return PresetEntries(
        typed=typed, version=version, headers=headers, parameters=parameters, fields=fields, errors=by_pointer
    )


def rows_in(typed: Typed, where: str) -> list[str]:
    """What the names of inputs begin with, of each row in the order of their numbers: a form may come in any."""
    found = (_NAME_INPUT.fullmatch(key) for key in typed if key.startswith(f"{where}#"))
    return [f"{where}#{number}" for number in sorted(int(each[1]) for each in found if each is not None)]


def _shown_rows(typed: Typed, where: str, errors: Mapping[str, tuple[str, ...]]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for row in rows_in(typed, where):
        parts = {name.removeprefix(f"{row}#"): text for name, text in typed.items() if name.startswith(f"{row}#")}
        if any(text for part, text in parts.items() if part not in _ALWAYS):
            rows.append(_row(len(rows), where, parts, typed, errors))
    spare = {"type": TYPES[0], "need": "required"} if where == "/parameters" else {}
    return (*rows, *(Row(number=len(rows) + at, parts=spare) for at in range(SPARE)))


def _row(number: int, where: str, parts: Mapping[str, str], typed: Typed, errors: Mapping[str, tuple[str, ...]]) -> Row:
    name = parts.get("name", "").strip()
    said = errors.get(f"{where}{pointer((name,))}", ()) if name else ()
    if where != "/parameters":
        return Row(number=number, parts=parts, errors=said)
    return Row(number=number, parts=parts, errors=said, sample=sample_in(typed, name), example=_example(parts))


def _example(parts: Mapping[str, str]) -> str:
    """What stands for a sample that is left empty."""
    if parts.get("need") == "default":
        return parts.get("default", "")
    lines = [line for line in parts.get("one_of", "").split("\n") if line.strip()]
    if lines:
        return lines[0]
    length = parts.get("max_length", "")
    raw = {"type": parts.get("type"), "max_length": int(length) if _WHOLE.fullmatch(length) else None}
    return _plain(example_of(parts.get("name", ""), raw))


def sample_in(typed: Typed, name: str) -> str:
    """The sample that was typed for a parameter; empty where there is none."""
    rows = (row for row in rows_in(typed, "/parameters") if typed[f"{row}#name"].strip() == name)
    return next((typed.get(f"{row}#sample", "") for row in rows), "")


def placed_errors(typed: Typed, errors: Sequence[ItemError]) -> list[ItemError]:
    """Errors where the form has an input for them; what they are about below that is said in words."""
    by_fields = kind_of(typed.get("/content_type", "")) == FORM
    return [_placed(each, by_fields) for each in errors]


def _placed(error: ItemError, by_fields: bool) -> ItemError:
    top, *below = error.pointer.split("/")[1:] or [""]
    if not below or (top == "body" and by_fields):
        return error
    if top == "body":
        return ItemError("/body", f"at /{'/'.join(below)}: {error.detail}")
    if top in ("headers", "parameters", "sample"):
        name, *inner = below
        said = {"default": "Default", "max_length": "At most", "one_of": "One of", "type": "Type"}
        before = f"{said.get(inner[0], inner[0])}: " if inner else ""
        return ItemError(f"/{top}/{name}", f"{before}{error.detail}")
    return ItemError(f"/{top}", error.detail)
