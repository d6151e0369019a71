"""`/export`: stored integrations as a config file, without their secrets."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from pydantic import Field, PlainValidator, WithJsonSchema

from sidekey.api.errors import ItemError, invalid
from sidekey.api.messages import YAML, ApiRequest, ApiResult
from sidekey.api.models import PAGE_SIZE, Body
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.config.field_types import NAME_PATTERN
from sidekey.config.stored.transfer import Exported, NotExported, build_comment, config_of, export_integration
from sidekey.config.yaml_writer import Inexpressible, write
from sidekey.policy.identifiers import valid_id
from sidekey.store.state import State


def _parse_ids(raw: object) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(raw.split(","))) if isinstance(raw, str) else ()
    if not 0 < len(ids) <= PAGE_SIZE or not all(map(valid_id, ids)):
        raise ValueError(f"must be 1 to {PAGE_SIZE} IDs of integrations, separated by commas")
    return ids


class ExportFilter(Body):
    """The query of an export."""

    id: Annotated[
        tuple[str, ...],
        PlainValidator(_parse_ids),
        WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}(,{NAME_PATTERN}){{0,{PAGE_SIZE - 1}}}$"}),
    ] = Field(description=f"1 to {PAGE_SIZE} IDs of integrations, separated by commas.")


@partial(
    Route,
    "GET",
    "/export",
    "exportIntegrations",
    permission="editor",
    query=ExportFilter,
    offers_yaml=True,
    codes=("invalid",),
)
async def export(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Export stored integrations as a config file, without secrets."""
    return await service.run(_export, request.query.id, service.store.state)


def _export(ids: tuple[str, ...], state: State) -> ApiResult:
    """Write the config file. Raises ApiProblem with an error for each integration that cannot be exported."""
    exported: dict[str, Exported] = {}
    errors: list[ItemError] = []
    for number, name in enumerate(ids):
        try:
            exported[name] = _exported(name, state)
        except (NotExported, Inexpressible) as error:
            errors.append(ItemError(f"/id/{number}", str(error)))
    if errors:
        raise invalid(errors)
    needs = [need for integration in exported.values() for need in integration.needs]
    notes = [f"{name}: {note}" for name, integration in exported.items() for note in integration.notes]
    document = config_of(integrations={name: integration.config for name, integration in exported.items()})
    title = f"integration{'s' if len(ids) > 1 else ''} {', '.join(ids)}"
    return ApiResult(200, write(document, build_comment(title, needs, notes)).encode(), content_type=YAML)


def _exported(name: str, state: State) -> Exported:
    row = state.integrations.get(name)
    if row is None:
        raise NotExported("no stored integration has this ID")
    integration = export_integration(row)
    # Raises Inexpressible while the ID of the integration is still known: `_export` writes all of them at once.
    write({name: integration.config})
    return integration


ROUTES: Final = (export,)
