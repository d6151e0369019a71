"""`/kinds` and `/providers`: the kinds of credentials and the provider profiles, with their schemas."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sidekey.admin.api.answer import Answer
from sidekey.admin.api.ask import Ask
from sidekey.admin.api.route import Route
from sidekey.admin.api.schemas import components
from sidekey.admin.api.service import Service
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles


async def kinds(service: Service, ask: Ask) -> Answer:
    """All kinds, with the schema of `auth` for each."""
    del ask
    return await service.answer(_kinds)


async def providers(service: Service, ask: Ask) -> Answer:
    """All provider profiles, with what each asks for."""
    del ask
    return await service.answer(_providers)


def _kinds() -> dict[str, Any]:
    schemas = components()
    items = []
    for name, kind in KINDS.items():
        schema = schemas[kind.__name__]
        items.append(
            {
                "kind": name,
                "description": schema["description"],
                "needs_endpoint_prefix": kind.needs_prefix,
                "brings_certificate": kind.brings_certificate,
                "providers": list(profiles.names_of(name)),
                "schema": schema,
            }
        )
    return {"items": items, "schemas": schemas}


@cache
def _providers() -> dict[str, Any]:
    items = []
    for name in profiles.names():
        found = profiles.profile(name)
        parameters = [
            {
                "name": key,
                "description": each.description,
                "rule": each.rule,
                "pattern": each.pattern,
                "example": each.example,
                "type": each.type,
                "required": each.required and each.default is None and not each.defaults,
            }
            for key, each in found.parameters.items()
        ]
        secrets = [{"name": key, "description": each} for key, each in found.secrets.items()]
        items.append(
            {
                "provider": name,
                "kind": found.kind,
                "title": found.title,
                "documentation": found.documentation,
                "notes": found.notes,
                "sources": found.sources,
                "unconfirmed": found.unconfirmed,
                "parameters": parameters,
                "secrets": secrets,
            }
        )
    return {"items": items}


ROUTES: Final = (
    Route(
        method="GET",
        path="/kinds",
        name="listKinds",
        summary="List the kinds of credentials, with the JSON schema of `auth` for each.",
        role="viewer",
        handle=kinds,
        gives="Kinds",
        needs_store=False,
    ),
    Route(
        method="GET",
        path="/providers",
        name="listProviders",
        summary="List the provider profiles, with their parameters and secrets.",
        role="viewer",
        handle=providers,
        gives="Providers",
        needs_store=False,
    ),
)
