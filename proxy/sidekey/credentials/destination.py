"""Destination of stored secrets: the settings that decide where a secret may go, in canonical form.

The store seals a secret with its destination, and `config.stored` asks for the secret again if that changes. Every key
counts unless its definition says `SAFE_TO_CHANGE`, so nobody can forget a new key. A key with its default value is left
out, so a new key changes no existing destination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import BaseModel

from sidekey.credentials.fields import Reference

Place = tuple[str | int, ...]
"""The keys and list indexes on the path to a value."""

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"

_PLAIN: Final = (str, int, float, bool)
"""Types of values that contain no reference."""

_LISTS: Final = (list, tuple)


@dataclass(frozen=True, slots=True)
class SafeToChange:
    """Marks a key whose change cannot redirect a stored secret, so the editor need not enter the secret again."""


SAFE_TO_CHANGE: Final = SafeToChange()


@dataclass(frozen=True, slots=True)
class ComparedAs:
    """Marks a key with its own canonical form. `form` returns None for a value that does not affect the destination."""

    form: Callable[[Any], Json]


@dataclass(frozen=True, slots=True)
class TiedToSecret:
    """Marks a value that belongs to the `secret` beside it, such as a certificate to its key.

    If either changes, neither is kept. Otherwise an editor could test guesses of one against the other.
    """

    secret: str


class FieldKey(NamedTuple):
    """A key of a model: its attribute, its name in documents, and its markers. `form` is that of `ComparedAs`.

    `default` is its value if a document omits it, and `default_form` the canonical form of that value.
    """

    attribute: str
    name: str
    safe_to_change: bool
    form: Callable[[Any], Json] | None
    tied_to: tuple[str, ...]
    default: Any
    default_form: Json


@cache
def keys_of(model: type[BaseModel]) -> tuple[FieldKey, ...]:
    """Return the keys of a model."""
    return tuple(_keys(model))


def _keys(model: type[BaseModel]) -> Iterator[FieldKey]:
    for attribute, field in model.model_fields.items():
        form = next((mark.form for mark in field.metadata if isinstance(mark, ComparedAs)), None)
        # `get_default` would copy the value, and a reference cannot be copied.
        default = field.default if field.default_factory is None else field.default_factory()  # type: ignore[call-arg]
        default_form = None if field.is_required() else _form(default, form)
        yield FieldKey(
            attribute,
            field.alias or attribute,
            SAFE_TO_CHANGE in field.metadata,
            form,
            tuple(mark.secret for mark in field.metadata if isinstance(mark, TiedToSecret)),
            default,
            default_form,
        )


def destination_of(settings: BaseModel) -> dict[str, Json]:
    """Return the destination of secrets entered for these settings, without the secrets."""
    destination: dict[str, Json] = {}
    for key in keys_of(type(settings)):
        value = getattr(settings, key.attribute)
        # Most keys are omitted: comparing identities is faster than comparing their forms.
        if not key.safe_to_change and value is not key.default:
            form = _form(value, key.form)
            # An empty section equals an omitted one.
            if form != key.default_form and (key.default_form is not None or form != {}):
                destination[key.name] = form
    return destination


def accepted_destinations(settings: BaseModel) -> tuple[dict[str, Json], ...]:
    """Return each destination whose stored secrets may be used with these settings. The first is the settings' own.

    An editor may enable the redaction of responses without entering the secret again, but not disable it.
    """
    destination = destination_of(settings)
    if "redact_response" not in destination:
        return (destination,)
    return (destination, {key: value for key, value in destination.items() if key != "redact_response"})


def _form(value: Any, form: Callable[[Any], Json] | None) -> Json:
    """Return the canonical form of a value, by `form` if it has its own. A stored secret has the form None."""
    if form is not None:
        return form(value)
    if value is None or type(value) is str:
        return value
    if isinstance(value, BaseModel):
        return destination_of(value)
    if isinstance(value, Reference):
        return None if is_stored(value) else value.value
    if isinstance(value, dict):
        return {name: _named_form(item) for name, item in value.items()}
    if isinstance(value, _LISTS):
        # A list of secrets counts as one secret: an editor may add, move and remove each one alone.
        public = [item for item in value if not is_stored(item)]
        return [_form(item, None) for item in public] if public or not value else None
    return value if isinstance(value, _PLAIN) else str(value)


def is_stored(value: Any) -> bool:
    """Return True for a reference to a secret in the store."""
    return isinstance(value, Reference) and value.source in ("stored", "stored_url")


def _named_form(value: Any) -> Json:
    """Return the canonical form of a named entry. A secret counts by its presence, never by its value.

    The presence counts because a value under another name may change the destination of the remaining secrets.
    """
    form = _form(value, None)
    return {} if form is None else form


def references_in(settings: BaseModel, place: Place = ()) -> list[tuple[Place, Reference]]:
    """Return every reference of the settings, with its location in the document."""
    references: list[tuple[Place, Reference]] = []
    _collect(settings, place, references)
    return references


def _collect(value: Any, place: Place, references: list[tuple[Place, Reference]]) -> None:
    if isinstance(value, Reference):
        references.append((place, value))
    elif isinstance(value, BaseModel):
        for key in keys_of(type(value)):
            inner = getattr(value, key.attribute)
            # Most keys are omitted or plain. Skipping them matters for ten thousand documents.
            if inner and not isinstance(inner, _PLAIN):
                _collect(inner, (*place, key.name), references)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _collect(inner, (*place, name), references)
    elif type(value) in _LISTS:
        # Exact types: a prefix or a domain is a named tuple and contains no reference.
        for index, inner in enumerate(value):
            _collect(inner, (*place, index), references)


def tied_secrets(settings: BaseModel, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the location of each value that is tied to a secret, and the name of that secret."""
    for key in keys_of(type(settings)):
        value = getattr(settings, key.attribute)
        if value is not None:
            yield from (((*place, key.name), secret) for secret in key.tied_to)
        if isinstance(value, BaseModel):
            yield from tied_secrets(value, (*place, key.name))
