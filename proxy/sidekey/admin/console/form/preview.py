"""What saving a form would do, in words beside its fields, before it is saved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sidekey.admin.api.problems import ItemError
from sidekey.admin.console.form.fields import Field
from sidekey.admin.console.form.filled import unplaced
from sidekey.admin.console.form.forms import Form
from sidekey.settings.stored.document import parts_of

SOON: Final = 30
"""Days before its end from which on a certificate's is told as a warning."""


class Note(NamedTuple):
    """What is said of what was entered in a field."""

    mood: str
    text: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What an editor is told. `summary` is one text for all that matters; the others stand beside fields, by pointers.

    `again` are secrets to enter again, `moving` the fields whose change is why, `notes` what certificates are.
    """

    summary: str = ""
    mood: str = "quiet"
    again: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()
    notes: Mapping[str, Note] = field(default_factory=dict)
    errors: tuple[ItemError, ...] = ()
    rest: tuple[ItemError, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the script."""
        return {
            "summary": self.summary,
            "mood": self.mood,
            "again": self.again,
            "moving": self.moving,
            "notes": self.notes,
        }


NOTHING: Final = Preview()


def preview_of(form: Form, given: Mapping[str, Any], wrong: Sequence[ItemError], new: bool) -> Preview:
    """Of what the API says to a document; `wrong` is what is wrong with files beside it. `new`: it replaces nothing."""
    said = worded(form, [ItemError(**each) for each in given["errors"]])
    taken = [ItemError("/id", "is the ID of another: choose one that is free")] if new and given["version"] else []
    places = {each.pointer for each in wrong}
    errors = (*taken, *wrong, *(each for each in said if each.pointer not in places))
    again = tuple(each["pointer"] for each in given["reenter"])
    moving = tuple(dict.fromkeys(where for each in given["reenter"] for where in each["because"]))
    pem = [each for field_ in form.fields for each in field_.walk() if each.widget == "pem"]
    notes = {each.pointer: note for each in pem if (note := _note(each, given, errors)) is not None}
    goes = _goes(given["destination"])
    if again:
        text = _moved(form, again, moving)
        return Preview(text, "warning", again, moving, notes, errors)
    if errors:
        return Preview("", "quiet", (), (), notes, errors, tuple(unplaced(form.fields, errors)))
    return Preview(goes, "good", (), (), notes)


def worded(form: Form, errors: Iterable[ItemError]) -> tuple[ItemError, ...]:
    """Errors that name fields as the form does, and not by the keys that a file would have."""
    labels = {each.key: each.label for field_ in form.fields for each in field_.walk() if "_" in each.key}

    def flag(found: re.Match[str]) -> str:
        return f"tick \u201c{labels[found[1]]}\u201d" if found[1] in labels else found[0]

    def key(found: re.Match[str]) -> str:
        return f"\u201c{labels[found[0]]}\u201d" if found[0] in labels else found[0]

    return tuple(ItemError(where, _KEY.sub(key, _FLAG.sub(flag, text))) for where, text in errors)


_FLAG: Final = re.compile(r"write ([a-z_]+): true")
_KEY: Final = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")


def _moved(form: Form, again: Iterable[str], moving: Sequence[str]) -> str:
    secrets, changes = _labels(form, again), _labels(form, moving)
    if not changes:
        return f"What is stored is not valid any more. Enter again: {secrets}."
    pem = {each.pointer for field_ in form.fields for each in field_.walk() if each.widget == "pem"}
    if set(moving) <= pem:
        return f"A certificate and its key are changed together. Enter as well: {secrets}; or put {changes} back."
    return (
        f"You changed where the credential goes. Enter again: {secrets}; or put {changes} back. "
        "A stored secret only ever goes where it was entered for."
    )


def _labels(form: Form, pointers: Iterable[str]) -> str:
    """What people call fields; of rows, the name of the row."""
    found = dict.fromkeys(filter(None, (_label(form.fields, each) for each in pointers)))
    return ", ".join(found)


def name_at(form: Form, where: str) -> str:
    """What people call what is at a pointer."""
    return _label(form.fields, where) or where.strip("/").replace("/", " ") or "everything"


def _label(fields: Iterable[Field], where: str) -> str:
    for each in fields:
        if where == each.pointer or where.startswith(f"{each.pointer}/"):
            inner = _label(each.parts, where)
            return inner or _name_of(each, [*parts_of(where.removeprefix(each.pointer))]) or each.label
    return ""


def _name_of(field_: Field, below: Sequence[str]) -> str:
    """What people call what is below a field, by the parts of its pointer there; empty: no more than its label."""
    match field_.widget:
        case "rows":
            return "".join(below[:1])
        case "tree":
            return ".".join(below)
        case "secrets" if below and below[0].isdecimal():
            return f"{field_.label} {int(below[0]) + 1}"
        case _:
            return ""


def _note(field_: Field, given: Mapping[str, Any], errors: Iterable[ItemError]) -> Note | None:
    own = [each.detail for each in errors if each.pointer == field_.pointer and each.detail != _MISSING]
    warnings = [each["detail"] for each in given["warnings"] if each["pointer"] == field_.pointer]
    seen = next((each for each in given["certificates"] if each["pointer"] == field_.pointer), None)
    told = "" if seen is None else _told(seen)
    texts = [_sentence(each) for each in (*own, *warnings)]
    if own:
        return Note("bad", " ".join([*texts, told]).strip())
    if seen is None:
        return Note("warning", " ".join(texts)) if texts else _of_key(field_, given)
    warned = bool(texts) or seen["days_left"] < SOON
    return Note("warning" if warned else "good", " ".join([told, *texts]))


_MISSING: Final = "this key is missing"
"""What is not there yet is no news to whoever has just begun."""

_MOST: Final = 3
"""Places that are named."""


def _of_key(field_: Field, given: Mapping[str, Any]) -> Note | None:
    """What is known of a key by the certificate beside it."""
    parent, _, key = field_.pointer.rpartition("/")
    for each in given["certificates"]:
        if key == "private_key" and each["pointer"] == f"{parent}/certificate" and each["key_belongs"]:
            return Note("good", f"It is the key of {each['subject']}.")
    return None


def _told(seen: Mapping[str, Any]) -> str:
    end = datetime.fromisoformat(seen["not_after"])
    days = seen["days_left"]
    until = f"until {end.day} {end:%B %Y}"
    left = (
        f"{days} day{'' if days == 1 else 's'} left"
        if days >= 0
        else f"over for {-days} day{'' if days == -1 else 's'}"
    )
    chain = "" if seen["chain"] == 1 else f" With {seen['chain'] - 1} of its chain."
    return f"{seen['subject']}, issued by {seen['issuer']}, {until}: {left}.{chain}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _goes(destination: Mapping[str, Any] | None) -> str:
    if destination is None:
        return ""
    allowed = destination["prefixes"] or destination["domains"]
    more = f" and {len(allowed) - _MOST} more" if len(allowed) > _MOST else ""
    places = f"{', '.join(allowed[:_MOST])}{more}"
    if destination["learns"]:
        within = f", within {places}" if places else ""
        return f"The credential goes where the token response says{within}."
    return f"The credential goes to {places}, and nowhere else."
