"""The document that a form has sent: what was typed, and what is kept of what is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final

from sidekey.admin.console.form.fields import Field
from sidekey.admin.console.form.filled import fill, parts_of, row_of
from sidekey.admin.console.form.secret_rows import read_secrets
from sidekey.admin.console.form.trees import read_tree
from sidekey.admin.console.form.typed import BREAK, Sent, flag_in, kept_in, number_in, secret_in, whole_in


def document_of(
    fields: Iterable[Field], sent: Sent, former: Mapping[str, Any], hidden: Container[str] = ()
) -> dict[str, Any]:
    """What the fields say. A field that is left empty is left out, so that its default counts; so is a `hidden` one.

    `former` is what is stored, as it reads: what is kept of it is sent back as it is, also where nobody changed what
    the form showed of it, or where no field is for it. The same can be written in several ways: saving must not choose.
    """
    fields = tuple(fields)
    keys = {field.key for field in fields}
    found = {key: value for key, value in former.items() if key not in keys}
    for field in fields:
        value = None if field.pointer in hidden else _value(field, sent, former.get(field.key), hidden)
        if value is not None:
            found[field.key] = value
    return found


def _value(field: Field, sent: Sent, former: Any, hidden: Container[str]) -> Any:
    text = sent.get(field.pointer, "")
    match field.widget:
        case "group":
            parts = parts_of(field, former)
            found = document_of(field.parts, sent, parts, hidden)
            if former is not None and found == parts and not (found and isinstance(former, Mapping)):
                return former
            return found or None
        case "flag":
            checked = field.pointer in sent
            if isinstance(former, bool) and checked is former:
                return former
            return None if checked is bool(field.default) else checked
        case _ if field.widget in _READ:
            return _READ[field.widget](field, sent, former)
        case _ if former is not None and _is_shown(field, text, former):
            return former
        case "lines":
            return _lines(field, text)
        case "number":
            number = whole_in(text.strip())
            return text.strip() or None if number is None else number
        case "text" if field.exact:
            return text or None
        case "choice" | "text":
            return text.strip() or None


def _is_shown(field: Field, text: str, former: Any) -> bool:
    """Whether a text is what the form shows of a value; an input of one line has lost its ends of lines."""
    break_ = "\n" if field.widget == "lines" and field.key != "tags" else ""
    shown = fill((field,), {field.key: former})[0].value
    return BREAK.sub(break_, text) == BREAK.sub(break_, shown)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _pem(field: Field, sent: Sent, former: Any) -> Any:
    name = field.pointer
    source = sent.get(f"{name}#source", field.sources[0])
    file = file_in(field, sent)
    if file:
        source = next(each for each in field.sources if each != "url")
    if source in field.choices or (field.choices and not source):
        return source or None
    text = BREAK.sub("\n", file or sent.get(name, "")).strip()
    if not text or sent.get(f"{name}#do") == "remove":
        return kept_in(sent, name, former)
    if source == "text":
        return f"{text}\n"
    if source == "url":
        return {"url": text}
    return {"value" if source == "secret" else "inline": f"{text}\n"}


def file_in(field: Field, sent: Sent) -> str:
    """What was uploaded for a field; empty: nothing was."""
    return sent.get(f"{field.pointer}#file", "")


def _rows(field: Field, sent: Sent, raw: Any) -> dict[str, Any] | None:
    former = _mapping(raw)
    found: dict[str, Any] = {}
    own = f"{field.pointer}#"
    for each in [key for key in sent if key.startswith(own) and key.endswith("#name")]:
        row, name = each.removesuffix("#name"), sent[each].strip()
        if name:
            found[name] = _row(field, sent, row, former.get(name))
    return found or None


def _row(field: Field, sent: Sent, row: str, former: Any) -> Any:
    kind = sent.get(f"{row}#kind", field.sources[0])
    shown = row_of("", former)
    if kind == "secret" or (shown.stored and sent.get(f"{row}#value#do") == "keep"):
        # A secret that is kept stays one: it cannot become public text, and no choice beside it must lose it.
        stored = _mapping(former)
        kept = stored.get("secret", stored)
        secret = secret_in(sent, f"{row}#value", kept) or {"value": ""}
        if not field.prefixed:
            return secret
        prefix = sent.get(f"{row}#prefix", "")
        if secret is kept and prefix == shown.prefix:
            return former
        return {"prefix": prefix, "secret": secret} if prefix else {"secret": secret}
    text = sent.get(f"{row}#value", "")
    if former is not None and (kind, text) == (shown.kind, BREAK.sub("", shown.value)):
        return former
    if kind == "number":
        return number_in(text.strip())
    if kind == "flag":
        return flag_in(text.strip())
    return text


def _lines(field: Field, text: str) -> list[Any] | None:
    parts = [part.strip() for part in re.split(r"[\r\n,]+" if field.key == "tags" else r"[\r\n]+", text)]
    return [_line(field, part) for part in parts if part] or None


def _line(field: Field, text: str) -> Any:
    number = whole_in(text) if "number" in field.sources else None
    return text if number is None else number


_READ: Final[Mapping[str, Callable[[Field, Sent, Any], Any]]] = {
    "secret": lambda field, sent, former: secret_in(sent, field.pointer, former),
    "secrets": lambda field, sent, former: read_secrets(field.pointer, sent, former),
    "pem": _pem,
    "rows": _rows,
    "tree": lambda field, sent, former: read_tree(field.pointer, sent, former),
}
"""What reads a field whose inputs have names of their own."""
