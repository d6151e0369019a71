"""All routes of the API. Add the routes of a new handler module here."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Final

from pydantic import RootModel

from sidekey.api.handlers import (
    audit,
    batches,
    callers,
    export,
    forms,
    integration_preview,
    integration_template,
    integration_tests,
    integrations,
    kinds,
    oidc,
    preset_tests,
    presets,
    sends,
    sessions,
    tokens,
    usage,
)
from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.openapi import document
from sidekey.api.route import Route
from sidekey.api.service import ApiServices


class OpenApi(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""


@partial(Route, "GET", "/openapi.json", "getOpenApi", permission="viewer", response=OpenApi, needs_store=False)
async def openapi(service: ApiServices, request: ApiRequest) -> ApiResult:
    """Read this OpenAPI document."""
    del request
    return await service.run(_openapi)


@cache
def _openapi() -> ApiResult:
    return ApiResult.of(OpenApi(document(ROUTES)))


ROUTES: Final[tuple[Route, ...]] = (
    *integrations.ROUTES,
    *integration_tests.ROUTES,
    *integration_preview.ROUTES,
    *presets.ROUTES,
    *preset_tests.ROUTES,
    *forms.ROUTES,
    *sends.ROUTES,
    *batches.ROUTES,
    *callers.ROUTES,
    *kinds.ROUTES,
    *export.ROUTES,
    *integration_template.ROUTES,
    *tokens.ROUTES,
    *sessions.ROUTES,
    *oidc.ROUTES,
    *audit.ROUTES,
    *usage.ROUTES,
    openapi,
)
