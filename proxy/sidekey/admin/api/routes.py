"""The routes of the API. A new module is a line here."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

from pydantic import RootModel

from sidekey.admin.api import (
    audit,
    batches,
    callers,
    catalogue,
    export,
    forms,
    history,
    integrations,
    oidc,
    preset_trials,
    presets,
    previews,
    sends,
    sessions,
    starting,
    tokens,
    trials,
)
from sidekey.admin.api.messages import ApiRequest, ApiResult
from sidekey.admin.api.openapi import document
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service


class OpenApi(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


@partial(Route, "GET", "/openapi.json", "getOpenApi", permission="viewer", gives=OpenApi, needs_store=False)
async def openapi(service: Service, request: ApiRequest) -> ApiResult:
    """Read this OpenAPI document."""
    del request
    return await service.run(_openapi)


@cache
def _openapi() -> ApiResult:
    return ApiResult.of(OpenApi(document(ROUTES)))


ROUTES: Final[tuple[Route, ...]] = (
    *integrations.ROUTES,
    *trials.ROUTES,
    *previews.ROUTES,
    *presets.ROUTES,
    *preset_trials.ROUTES,
    *forms.ROUTES,
    *sends.ROUTES,
    *batches.ROUTES,
    *callers.ROUTES,
    *catalogue.ROUTES,
    *export.ROUTES,
    *starting.ROUTES,
    *tokens.ROUTES,
    *sessions.ROUTES,
    *oidc.ROUTES,
    *audit.ROUTES,
    *history.ROUTES,
    openapi,
)
