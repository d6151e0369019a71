"""The one validation of an integration, wherever its document came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from sidekey.credentials.context import Context
from sidekey.credentials.destination import references_in
from sidekey.credentials.fields import SEND_VALUE
from sidekey.settings import checks
from sidekey.settings.config_errors import Finding
from sidekey.settings.models import IntegrationSettings
from sidekey.settings.profiles import PROVIDER, Brought, Expansion, expand, merged
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


def _warnings(table: Mapping[str, Any], context: Context, store: checks.Store) -> Iterator[Finding]:
    yield from (Finding(*each) for each in checks.unexpanded_in(table, context))
    yield from (Finding(*each) for each in checks.integration_warnings(table))
    yield from (Finding(*each) for each in checks.single_process_warnings(table, store))


def _open_secrets(settings: IntegrationSettings, expansion: Expansion) -> Iterator[Finding]:
    """Find secrets that a body or row has as plain text, which only a file may.

    What a profile brings is public, and so is an empty text.
    """
    for place, reference in references_in(settings.auth, ("auth",)):
        if reference.source == "plain" and reference.value and expansion.written(place) != PROVIDER:
            yield Finding(place, f"must not be a bare text: {SEND_VALUE}")


def _validated(expansion: Expansion, context: Context, warnings: Iterable[Finding] = ()) -> Validated:
    table = expansion.table
    found: list[Finding] = []
    settings: IntegrationSettings | None = None
    try:
        settings = IntegrationSettings.model_validate(table, context=context)
    except ValidationError as error:
        found += findings_of(error, IntegrationSettings, lambda _: table)
    found += (Finding(*each) for each in checks.integration_errors(table, context))
    if settings is not None and not context.is_file:
        found += _open_secrets(settings, expansion)

    def placed(findings: Iterable[Finding]) -> Iterator[Finding]:
        return map(expansion.placed, findings)

    own = (Finding(*each) for each in expansion.errors)
    return Validated(settings, (*own, *placed(found)), tuple(placed(warnings)), expansion)
