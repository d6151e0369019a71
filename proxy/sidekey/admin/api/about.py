"""`/openapi.json`: the API's own description."""

from __future__ import annotations

from typing import Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service


async def openapi(service: Service, ask: Ask) -> Answer:
    """The OpenAPI document, made of the table of routes."""
    del ask
    return await service.answer(service.describe)


ROUTES: Final = (
    Route(
        method="GET",
        path="/openapi.json",
        name="getOpenApi",
        summary="Read this OpenAPI document.",
        role="viewer",
        handle=openapi,
        gives="OpenApi",
        needs_store=False,
    ),
)
