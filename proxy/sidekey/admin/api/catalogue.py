"""`/kinds` and `/providers`: the kinds of credentials and the provider profiles, with their schemas."""

from __future__ import annotations

from collections.abc import Mapping
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
    """All provider profiles, with what each asks for; with `q`, those whose name, title or alias contains it."""
    return await service.answer(_providers, ask.query.get("q", "").casefold())


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


def _providers(text: str) -> dict[str, Any]:
    """The profiles with a name, a title or an alias that contains `text`, which is case-folded."""
    return {
        "items": [
            each
            for each in _profiles()
            if any(text in word.casefold() for word in (each["provider"], each["title"], *each["aliases"]))
        ]
    }


@cache
def _profiles() -> list[dict[str, Any]]:
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
                "aliases": found.aliases,
                "category": found.category,
                "popular": found.popular,
                "documentation": found.documentation,
                "notes": found.notes,
                "test": None if found.test is None else found.test.model_dump(),
                "sources": found.sources,
                "unconfirmed": found.unconfirmed,
                "parameters": parameters,
                "secrets": secrets,
            }
        )
    return items


QUERY: Final[Mapping[str, Mapping[str, Any]]] = {
    "q": {"type": "string", "description": "A text that name, title or an alias contains, in any case."}
}

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
        query=QUERY,
        gives="Providers",
        needs_store=False,
    ),
)
