"""`/kinds` and `/providers`: the kinds of credentials and the provider profiles."""

from __future__ import annotations

from functools import cache
from inspect import getdoc
from typing import Any, Final

from pydantic import Field

from sidekey.admin.api.messages import ApiRequest, ApiResult
from sidekey.admin.api.resources import Body, contains
from sidekey.admin.api.route import Route
from sidekey.admin.api.service import Service
from sidekey.credentials.registry import KINDS
from sidekey.settings import profiles
from sidekey.settings.models import TestSettings


class Kind(Body):
    """A kind of credential."""

    kind: str
    description: str
    needs_endpoint_prefix: bool
    brings_certificate: bool
    providers: list[str]
    component: str = Field(description="The component of the OpenAPI document with the JSON schema of `auth`.")


class Kinds(Body):
    """The kinds of credentials."""

    items: list[Kind]


class ProviderParameter(Body):
    """A parameter of a provider profile: a key of `auth`."""

    name: str
    description: str
    rule: str
    pattern: str
    example: str | int
    type: str
    required: bool


class ProviderSecret(Body):
    """A secret of a provider profile: a key of `auth`, written as a secret."""

    name: str
    description: str


class Provider(Body):
    """A provider profile."""

    provider: str
    kind: str
    title: str
    aliases: list[str] = Field(description="Other names of the platform.")
    category: profiles.Category
    popular: bool
    documentation: str
    notes: str
    test: TestSettings | None = Field(description="A suggestion for the `test` of an integration.")
    sources: list[str] = Field(description="None: from memory.")
    unconfirmed: dict[str, profiles.Grounds] = Field(
        description="Facts that fewer than two sources confirm, each with its grounds."
    )
    parameters: list[ProviderParameter]
    secrets: list[ProviderSecret]


class ProviderFilter(Body):
    """The query of the list of provider profiles."""

    q: str = Field(default="", description="A text that name, title or an alias contains, in any case.")


class Providers(Body):
    """The provider profiles."""

    items: list[Provider]


async def kinds(service: Service, request: ApiRequest) -> ApiResult:
    """Respond with all kinds."""
    del request
    return await service.respond(_kinds)


async def providers(service: Service, request: ApiRequest) -> ApiResult:
    """Respond with the provider profiles, or with those whose name, title or alias contains a text."""
    return await service.respond(_providers, request.query.q)


def _kinds() -> Kinds:
    return Kinds(
        items=[
            Kind(
                kind=name,
                description=getdoc(kind) or "",
                needs_endpoint_prefix=kind.needs_prefix,
                brings_certificate=kind.brings_certificate,
                providers=list(profiles.names_of(name)),
                component=kind.__name__,
            )
            for name, kind in KINDS.items()
        ]
    )


def _providers(q: str) -> Providers:
    return Providers(items=[each for each in _all() if contains(q, (each.provider, each.title, *each.aliases))])


@cache
def _all() -> tuple[Provider, ...]:
    return tuple(_provider(name, profiles.profile(name)) for name in profiles.names())


def _provider(name: str, profile: profiles.Profile) -> Provider:
    return Provider(
        provider=name,
        kind=profile.kind,
        title=profile.title,
        aliases=profile.aliases,
        category=profile.category,
        popular=profile.popular,
        documentation=profile.documentation,
        notes=profile.notes,
        test=None if profile.test is None else TestSettings(**profile.test.model_dump()),
        sources=profile.sources,
        unconfirmed=profile.unconfirmed,
        parameters=[_parameter(key, each) for key, each in profile.parameters.items()],
        secrets=[ProviderSecret(name=key, description=each) for key, each in profile.secrets.items()],
    )


def _parameter(name: str, parameter: profiles.Parameter) -> ProviderParameter:
    shown: dict[str, Any] = {
        key: getattr(parameter, key) for key in ("description", "rule", "pattern", "example", "type")
    }
    required = parameter.required and parameter.default is None and not parameter.defaults
    return ProviderParameter(name=name, **shown, required=required)


ROUTES: Final = (
    Route(
        method="GET",
        path="/kinds",
        name="listKinds",
        summary="List the kinds of credentials, each with the name of its schema.",
        permission="viewer",
        handle=kinds,
        gives=Kinds,
        needs_store=False,
    ),
    Route(
        method="GET",
        path="/providers",
        name="listProviders",
        summary="List the provider profiles, with their parameters and secrets.",
        permission="viewer",
        handle=providers,
        query=ProviderFilter,
        gives=Providers,
        needs_store=False,
    ),
)
