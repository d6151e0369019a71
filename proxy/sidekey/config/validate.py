"""The one validation of an integration, wherever its document came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sidekey.config import checks
from sidekey.config.ca_bundles import MAX_BUNDLE_SIZE
from sidekey.config.errors import Finding, Loc
from sidekey.config.models import IntegrationSettings
from sidekey.config.profiles import Expansion, ProfileAdditions, expand, merged
from sidekey.config.pydantic_errors import findings_of
from sidekey.config.secrets import NotingReader
from sidekey.credentials.context import Context
from sidekey.credentials.fields import external_reference, mapping
from sidekey.credentials.registry import KINDS


class Validated(NamedTuple):
    """An integration as its document says it. `settings` is None where the models refuse it.

    Where there are `errors`, nothing may be built of it: what is missing of a profile was replaced by examples.
    """

    settings: IntegrationSettings | None
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expansion: Expansion


def validate(
    raw: Mapping[str, Any], context: Context, known: ProfileAdditions | None = None, *, store: checks.Store = "database"
) -> Validated:
    """Validate a document, its profile filled in; `known` as for `expand`. `store` is what processes may share."""
    expansion = expand(raw, context, known)
    return _validated(expansion, context, _warnings(expansion.table, context, store))


def validate_saved(raw: Mapping[str, Any], brought: ProfileAdditions | None) -> Validated:
    """Validate the document of a row, without warnings. `brought` is from its profile; None: it names none."""
    context = Context("row")
    return _validated(Expansion(raw, [], None) if brought is None else merged(raw, brought, context), context)


def validate_rest(validated: Validated, context: Context) -> IntegrationSettings | None:
    """Validate the sections of an invalid document that have no error, to find what else is wrong with their values."""
    wrong = {each.loc[0] for each in validated.errors if each.loc}
    rest = {key: value for key, value in validated.expansion.table.items() if key not in wrong}
    try:
        return IntegrationSettings.model_validate({"auth": _STAND_IN, **rest}, context=context)
    except ValidationError:
        # Not all errors are known: there were too many.
        return None


_STAND_IN: Final = {"type": "headers", "headers": {"X-Stand-In": "public"}}
"""An `auth` that is valid, and has no secret."""


def _warnings(table: Mapping[str, Any], context: Context, store: checks.Store) -> Iterator[Finding]:
    yield from (Finding(*each) for each in checks.unexpanded_in(table, context))
    yield from (Finding(*each) for each in checks.integration_warnings(table))
    yield from (Finding(*each) for each in checks.single_process_warnings(table, store))


def _validated(expansion: Expansion, context: Context, warnings: Iterable[Finding] = ()) -> Validated:
    table = expansion.table
    found: list[Finding] = []
    settings: IntegrationSettings | None = None
    try:
        settings = IntegrationSettings.model_validate(table, context=context)
    except ValidationError as error:
        found += findings_of(error, IntegrationSettings, lambda _: table, context)
    found += (Finding(*each) for each in checks.integration_errors(table, context))

    def placed(findings: Iterable[Finding]) -> Iterator[Finding]:
        return map(expansion.placed, findings)

    own = (Finding(*each) for each in expansion.errors)
    return Validated(settings, (*own, *placed(found)), tuple(placed(warnings)), expansion)


_NAMED = frozenset({"headers", "query", "body"})
"""Keys of mappings from names to values, beside those of kinds. `{file: a}` there is a value with the name `file`."""


def find_unreadable(document: Mapping[str, Any], errors: Sequence[Finding], read: NotingReader) -> Iterator[Finding]:
    """Yield a finding for each {file} or {env} that cannot be read, except in what `errors` refuses."""
    for loc, source, value in _references(document, (), _NAMED | _named_by_kind(document)):
        if any(_refuses(error, loc) for error in errors):
            continue
        try:
            # Bytes, since a certificate may be DER. What is in them is judged once the part is valid.
            read.raw(external_reference(source, value), MAX_BUNDLE_SIZE)
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
