"""Finds unreadable references in a part of a config that is invalid, so that all errors are listed at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from sidekey.credentials.fields import elsewhere, mapping
from sidekey.credentials.registry import KINDS
from sidekey.settings.bundles import LARGEST_BUNDLE
from sidekey.settings.config_errors import Finding, Loc
from sidekey.settings.secrets import NotingReader

_NAMED = frozenset({"headers", "query", "body"})
"""Keys of mappings from names to values, beside those of kinds. `{file: a}` there is a value with the name `file`."""


def find_unreadable(document: Mapping[str, Any], errors: Sequence[Finding], read: NotingReader) -> Iterator[Finding]:
    """Yield a finding for each {file} or {env} that cannot be read, except in what `errors` refuses."""
    for loc, source, value in _references(document, (), _NAMED | _named_by_kind(document)):
        if any(_refuses(error, loc) for error in errors):
            continue
        try:
            # Bytes, since a certificate may be DER. What is in them is judged once the part is valid.
            read.raw(elsewhere(source, value), LARGEST_BUNDLE)
        except ValueError as error:
            yield Finding(loc, str(error))
    # Nothing was built of these files that would have to be built again when they change.
    read.noted()


def _named_by_kind(document: Mapping[str, Any]) -> frozenset[str]:
    kind = KINDS.get(str(mapping(document.get("auth")).get("type")))
    return frozenset(_named_in(kind))


def _named_in(annotation: Any) -> Iterator[str]:
    """Yield the keys of mappings from names to values in a model and in the models below it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if get_origin(field.annotation) is dict:
                yield name
            yield from _named_in(field.annotation)
    for argument in get_args(annotation):
        yield from _named_in(argument)


def _references(value: Any, loc: Loc, named_values: frozenset[str]) -> Iterator[tuple[Loc, str, str]]:
    if isinstance(value, Mapping):
        if len(value) == 1 and loc and loc[-1] not in named_values:
            source, named = next(iter(value.items()))
            if source in ("file", "env") and isinstance(named, str):
                yield loc, source, named
                return
        for key, item in value.items():
            yield from _references(item, (*loc, key), named_values)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*loc, index), named_values)


def _refuses(error: Finding, loc: Loc) -> bool:
    """Return True if the error is within the reference, or refuses a key above it."""
    place = error.place
    return place[: len(loc)] == loc or (error.key and loc[: len(place)] == place)
