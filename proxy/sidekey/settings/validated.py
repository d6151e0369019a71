"""The one validation of an integration, wherever its document came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from sidekey.credentials.context import Context
from sidekey.settings import checks
from sidekey.settings.config_errors import Finding
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.profiles import Brought, Expansion, expand, merged
from sidekey.settings.translate import findings_of


class Validated(NamedTuple):
    """An integration as its document says it. `settings` is None where the models refuse it.

    Where there are `errors`, nothing may be built of it: what is missing of a profile was replaced by examples.
    """

    settings: IntegrationSettings | None
    errors: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    expansion: Expansion


def validate(
    raw: Mapping[str, Any], context: Context, known: Brought | None = None, *, store: checks.Store = "database"
) -> Validated:
    """Validate a document, its profile filled in; `known` as for `expand`. `store` is what processes may share."""
    expansion = expand(raw, context, known)
    return _validated(expansion, context, _warnings(expansion.table, context, store))


def validate_saved(raw: Mapping[str, Any], brought: Brought | None) -> Validated:
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
