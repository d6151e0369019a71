"""Where a stored secret may go, as far as the settings decide it: what it is sealed for, in one form for each meaning.

A key of the settings counts unless it is declared harmless, where it is defined. So a key that is added later counts,
until somebody has thought about it; what it leaves out has the form of before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import BaseModel

from sidekey.credentials.fields import Reference

Place = tuple[str | int, ...]
"""The keys and list indexes that lead to a value."""

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class SafeToChange:
    """Marks a key whose change cannot move a stored secret elsewhere: no secret need be entered again for it."""


SAFE_TO_CHANGE: Final = SafeToChange()

_PLAIN: Final = (str, int, float, bool)
"""Types of values that hold no reference."""

_LISTS: Final = (list, tuple)


@dataclass(frozen=True, slots=True)
class ComparedAs:
    """Marks a key that decides by what `form` makes of its value; None where the value decides nothing."""

    form: Callable[[Any], Json]


@dataclass(frozen=True, slots=True)
class TiedToSecret:
    """Marks a value that belongs to the `secret` beside it, such as a certificate to its key.

    If either changes, neither is kept. Otherwise an editor could test guesses of one against the other.
    """

    secret: str


class FieldKey(NamedTuple):
    """A key of a model: its attribute, its name in documents, and what was declared about it.

    `made` is its value where a document leaves it out, and `default` the form of that.
    """

    attribute: str
    name: str
    harmless: bool
    form: Callable[[Any], Json] | None
    goes_with: tuple[str, ...]
    made: Any
    default: Json


@cache
def keys_of(model: type[BaseModel]) -> tuple[FieldKey, ...]:
    """The keys of a model."""
    return tuple(_keys(model))


def _keys(model: type[BaseModel]) -> Iterator[FieldKey]:
    for attribute, field in model.model_fields.items():
        form = next((each.form for each in field.metadata if isinstance(each, ComparedAs)), None)
        # Not by `get_default`, which copies: a reference is not copied.
        made = field.default if field.default_factory is None else field.default_factory()  # type: ignore[call-arg]
        default = None if field.is_required() else _form(made, form)
        yield FieldKey(
            attribute,
            field.alias or attribute,
            SAFE_TO_CHANGE in field.metadata,
            form,
            tuple(each.secret for each in field.metadata if isinstance(each, TiedToSecret)),
            made,
            default,
        )


def destination_of(settings: BaseModel) -> dict[str, Json]:
    """Return where secrets that are entered for these settings may go, without the secrets themselves."""
    found: dict[str, Json] = {}
    for key in keys_of(type(settings)):
        value = getattr(settings, key.attribute)
        # There are more keys than documents have: what is left out is mostly the very object.
        if not key.harmless and value is not key.made:
            form = _form(value, key.form)
            # A section that says nothing is as one that is left out.
            if form != key.default and (key.default is not None or form != {}):
                found[key.name] = form
    return found


def accepted(settings: BaseModel) -> tuple[dict[str, Json], ...]:
    """The destinations that a secret may have been entered for, to be used by these settings; the first is their own.

    Redaction of responses may be switched on for a secret that was entered without it, and not off.
    """
    own = destination_of(settings)
    if "redact_response" not in own:
        return (own,)
    return (own, {key: value for key, value in own.items() if key != "redact_response"})


def _form(value: Any, form: Callable[[Any], Json] | None) -> Json:
    if form is not None:
        return form(value)
    if value is None or type(value) is str:
        return value
    if isinstance(value, BaseModel):
        return destination_of(value)
    if isinstance(value, Reference):
        return None if is_stored(value) else value.value
    if isinstance(value, dict):
        return {name: _named(each) for name, each in value.items()}
    if isinstance(value, _LISTS):
        # A list of secrets counts as one of them: each may be added, moved and removed without the others.
        public = [each for each in value if not is_stored(each)]
        return [_form(each, None) for each in public] if public or not value else None
    return value if isinstance(value, _PLAIN) else str(value)


def is_stored(value: Any) -> bool:
    """Return True for a reference to a secret that the store keeps."""
    return isinstance(value, Reference) and value.source in ("stored", "stored_url")


def _named(value: Any) -> Json:
    """The form of what has a name that the document chose: of a secret that it is there, by what stands for no value.

    What is sent by another name may decide as well, and whoever names it may not know the other secrets.
    """
    form = _form(value, None)
    return {} if form is None else form


def references_in(settings: BaseModel, place: Place = ()) -> list[tuple[Place, Reference]]:
    """Return every reference of the settings, with its place in the document."""
    found: list[tuple[Place, Reference]] = []
    _collect(settings, place, found)
    return found


def _collect(value: Any, place: Place, found: list[tuple[Place, Reference]]) -> None:
    if isinstance(value, Reference):
        found.append((place, value))
    elif isinstance(value, BaseModel):
        for key in keys_of(type(value)):
            inner = getattr(value, key.attribute)
            # Most keys are left out, or plain: of ten thousand documents each look into a value counts.
            if inner and not isinstance(inner, _PLAIN):
                _collect(inner, (*place, key.name), found)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _collect(inner, (*place, name), found)
    elif type(value) in _LISTS:
        # Not in a prefix or a domain, which are tuples with names.
        for index, inner in enumerate(value):
            _collect(inner, (*place, index), found)


def pairs_in(settings: BaseModel, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the place of each value that goes with a secret, and the name of that secret beside it."""
    for key in keys_of(type(settings)):
        value = getattr(settings, key.attribute)
        if value is not None:
            yield from (((*place, key.name), secret) for secret in key.goes_with)
        if isinstance(value, BaseModel):
            yield from pairs_in(value, (*place, key.name))
