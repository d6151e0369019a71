"""Validate an integration from a config file, an API request or the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sidekey.config import checks
from sidekey.config.ca_bundles import MAX_BUNDLE_SIZE
from sidekey.config.errors import Finding, Loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import DUMMY_AUTH, Expansion, ProfileAdditions, expand, merge_additions
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.secrets import RecordingReader
from sidekey.credentials.context import Context
from sidekey.credentials.fields import external_reference, mapping
from sidekey.credentials.registry import KINDS


class Validated(NamedTuple):
    """The result of a validation. `settings` is None if the models refuse the document.

    Do not build an integration if there are `errors`: examples replace missing parameters of its profile.
    """

    settings: IntegrationSettings | None
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expansion: Expansion


def validate(
    raw: Mapping[str, Any],
    context: Context,
    previous: ProfileAdditions | None = None,
    *,
    store: checks.StoreKind = "database",
) -> Validated:
    """Add the profile's keys to a document, and validate it. `previous` is for `expand`, `store` for the warnings."""
    expansion = expand(raw, context, previous)
    return _validate_expansion(expansion, context, _warnings(expansion.table, context, store))


def validate_saved(raw: Mapping[str, Any], additions: ProfileAdditions | None) -> Validated:
    """Validate the document of a row, without warnings. `additions` are those of its profile, if it names one."""
    context = Context("row")
    return _validate_expansion(
        Expansion(raw, [], None) if additions is None else merge_additions(raw, additions, context), context
    )


def validate_valid_sections(validated: Validated, context: Context) -> IntegrationSettings | None:
    """Return the settings without the invalid sections, so that the caller can check the values of the rest too."""
    invalid = {error.loc[0] for error in validated.errors if error.loc}
    rest = {key: value for key, value in validated.expansion.table.items() if key not in invalid}
    try:
        return IntegrationSettings.model_validate({"auth": DUMMY_AUTH, **rest}, context=context)
    except ValidationError:
        # There were more errors than are listed.
        return None


def _warnings(table: Mapping[str, Any], context: Context, store: checks.StoreKind) -> Iterator[Finding]:
    yield from (Finding(*warning) for warning in checks.integration_variable_warnings(table, context))
    yield from (Finding(*warning) for warning in checks.integration_warnings(table))
    yield from (Finding(*warning) for warning in checks.single_process_warnings(table, store))


def _validate_expansion(expansion: Expansion, context: Context, warnings: Iterable[Finding] = ()) -> Validated:
    table = expansion.table
    errors: list[Finding] = []
    settings: IntegrationSettings | None = None
    try:
        settings = IntegrationSettings.model_validate(table, context=context)
    except ValidationError as error:
        errors += findings_of(error, IntegrationSettings, lambda _: table, context)
    errors += (Finding(*error) for error in checks.integration_errors(table, context))
    profile_errors = (Finding(*error) for error in expansion.errors)
    return Validated(
        settings,
        (*profile_errors, *map(expansion.locate, errors)),
        tuple(map(expansion.locate, warnings)),
        expansion,
    )


_NAME_MAPPINGS = frozenset({"headers", "query", "body"})
"""Keys, besides those of kinds, whose mapping has names chosen by the user: there `file` in `{file: a}` is a name."""


def find_unreadable(document: Mapping[str, Any], errors: Sequence[Finding], read: RecordingReader) -> Iterator[Finding]:
    """Yield a finding for each unreadable {file} or {env}, except in sections that `errors` refuses."""
    for loc, source, value in _references(document, (), _NAME_MAPPINGS | _name_mappings_of_kind(document)):
        if any(_refuses(error, loc) for error in errors):
            continue
        try:
            # Bytes, since a certificate may be DER. Their content is checked once the section is valid.
            # As a public text, because only a valid section tells which files are secrets.
            read.raw(external_reference(source, value, form="text"), MAX_BUNDLE_SIZE)
        except ValueError as error:
            yield Finding(loc, str(error))
    # Forget these files: no integration was built from them, so none has to be rebuilt if they change.
    read.pop_recorded()


def _name_mappings_of_kind(document: Mapping[str, Any]) -> frozenset[str]:
    kind = KINDS.get(str(mapping(document.get("auth")).get("type")))
    return frozenset(_name_mappings_in(kind))


def _name_mappings_in(annotation: Any) -> Iterator[str]:
    """Yield the keys of such mappings in a model and in the models below it, see `_NAME_MAPPINGS`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if get_origin(field.annotation) is dict:
                yield name
            yield from _name_mappings_in(field.annotation)
    for argument in get_args(annotation):
        yield from _name_mappings_in(argument)


def _references(value: Any, loc: Loc, name_mappings: frozenset[str]) -> Iterator[tuple[Loc, str, str]]:
    """Yield the location, the source and the path or name of each {file} and {env}."""
    if isinstance(value, Mapping):
        if len(value) == 1 and loc and loc[-1] not in name_mappings:
            source, path_or_name = next(iter(value.items()))
            if source in ("file", "env") and isinstance(path_or_name, str):
                yield loc, source, path_or_name
                return
        for key, item in value.items():
            yield from _references(item, (*loc, key), name_mappings)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*loc, index), name_mappings)


def _refuses(error: Finding, loc: Loc) -> bool:
    """Return True if the error is within the reference, or refuses a key above it."""
    place = error.document_loc
    return place[: len(loc)] == loc or (error.at_key and loc[: len(place)] == place)
