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
"""Types whose values contain no reference."""

_LISTS: Final = (list, tuple)


@dataclass(frozen=True, slots=True)
class SafeToChange:
    """Marks a key whose change cannot redirect a stored secret, so the editor need not enter the secret again."""


SAFE_TO_CHANGE: Final = SafeToChange()


@dataclass(frozen=True, slots=True)
class ComparedAs:
    """Marks a key that is compared in the form of `canonicalize`: None for a value that cannot redirect a secret."""

    canonicalize: Callable[[Any], Json]


@dataclass(frozen=True, slots=True)
class TiedToSecret:
    """Marks a value that belongs to the `secrets` beside it, such as a certificate to its key.

    If any of them changes, none is kept. Otherwise an editor could test guesses of one against the other.
    """

    secrets: tuple[str, ...]


class FieldKey(NamedTuple):
    """A key of a model: its attribute, its name in documents, its markers, and its default value."""

    attribute: str
    name: str
    safe_to_change: bool
    canonicalize: Callable[[Any], Json] | None
    tied_to: tuple[str, ...]
    default: Any
    canonical_default: Json


@cache
def keys_of(model: type[BaseModel]) -> tuple[FieldKey, ...]:
    """Return the keys of a model."""
    return tuple(_keys(model))


def _keys(model: type[BaseModel]) -> Iterator[FieldKey]:
    for attribute, field in model.model_fields.items():
        canonicalize = next((mark.canonicalize for mark in field.metadata if isinstance(mark, ComparedAs)), None)
        # `get_default` would copy the value, and a reference cannot be copied.
        default = field.default if field.default_factory is None else field.default_factory()  # type: ignore[call-arg]
        canonical_default = None if field.is_required() else _canonicalize(default, canonicalize)
        yield FieldKey(
            attribute,
            field.alias or attribute,
            SAFE_TO_CHANGE in field.metadata,
            canonicalize,
            next((mark.secrets for mark in field.metadata if isinstance(mark, TiedToSecret)), ()),
            default,
            canonical_default,
        )


def destination_of(settings: BaseModel) -> dict[str, Json]:
    """Return the destination of secrets entered for these settings, without the secrets."""
    destination: dict[str, Json] = {}
    for key in keys_of(type(settings)):
        value = getattr(settings, key.attribute)
        # Most keys are omitted: comparing identities is faster than comparing canonical values.
        if not key.safe_to_change and value is not key.default:
            canonical = _canonicalize(value, key.canonicalize)
            # An empty section equals an omitted one.
            if canonical != key.canonical_default and (key.canonical_default is not None or canonical != {}):
                destination[key.name] = canonical
    return destination


def accepted_destinations(settings: BaseModel) -> tuple[dict[str, Json], ...]:
    """Return the destinations for which a stored secret may be sealed so that these settings can use it.

    The first one is the destination of these settings. The second one is that of the same settings without
    `redact_response`: an editor may enable it without entering the secret again, but not disable it.
    """
    destination = destination_of(settings)
    if "redact_response" not in destination:
        return (destination,)
    return (destination, {key: value for key, value in destination.items() if key != "redact_response"})


def _canonicalize(value: Any, canonicalize: Callable[[Any], Json] | None) -> Json:
    """Return the canonical form of a value, that of `canonicalize` if its key has one. A stored secret is None."""
    if canonicalize is not None:
        return canonicalize(value)
    if value is None or type(value) is str:
        return value
    if isinstance(value, BaseModel):
        return destination_of(value)
    if isinstance(value, Reference):
        return None if is_stored(value) else value.value
    if isinstance(value, dict):
        return {name: _canonicalize_entry(item) for name, item in value.items()}
    if isinstance(value, _LISTS):
        # A list of secrets counts as one secret: an editor may add, move and remove each one alone.
        public = [item for item in value if not is_stored(item)]
        return [_canonicalize(item, None) for item in public] if public or not value else None
    return value if isinstance(value, _PLAIN) else str(value)


def is_stored(value: Any) -> bool:
    """Return True for a reference to a secret in the store."""
    return isinstance(value, Reference) and value.source in ("stored", "stored_url")


def _canonicalize_entry(value: Any) -> Json:
    """Return the canonical form of a named entry. A secret counts by its presence, never by its value.

    The presence counts because a value under another name may change the destination of the remaining secrets.
    """
    canonical = _canonicalize(value, None)
    return {} if canonical is None else canonical


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
