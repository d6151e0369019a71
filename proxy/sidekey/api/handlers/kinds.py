"""`/kinds` and `/providers`: the kinds of credentials and the provider profiles."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from inspect import getdoc
from typing import Any, Final

from pydantic import Field

from sidekey.api.messages import ApiRequest, ApiResult
from sidekey.api.models import Body, contains_words
from sidekey.api.route import Route
from sidekey.api.service import ApiServices
from sidekey.config import profiles
from sidekey.config.models import TestSettings
from sidekey.credentials.registry import KINDS

_WORDS_FOR_EVERY_KIND: Final = ("authentication", "authorization", "credential")
"""Words that find every kind here. The list of integrations does not search them."""

_CATEGORY_WORDS: Final[Mapping[profiles.Category, str]] = {
    "messaging": "SMS text message WhatsApp email",
    "commerce": "shop",
    "identity": "SSO",
}
"""Words that find every provider of a category."""


class Kind(Body):
    """A kind of credential."""

    kind: str
    title: str
    summary: str
    aliases: list[str] = Field(description="Other names of the kind.")
    description: str
    needs_endpoint_prefix: bool
    brings_certificate: bool
    providers: list[str]
    component: str = Field(description="The component of the OpenAPI document with the JSON schema of `auth`.")


class KindFilter(Body):
    """The query of the list of kinds."""

    q: str = Field(default="", description="Words that title, summary or aliases contain, in any case.")


class Kinds(Body):
    """The kinds of credentials, the most common ones first."""

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
    suggestions: list[str] = Field(description="Known values, the most common one first; others are allowed too.")


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
    sources: list[str] = Field(description="Sources of the profile; none: it is from memory.")
    unconfirmed: dict[str, profiles.Evidence] = Field(
        description="Facts that fewer than two sources confirm, each with its grounds."
    )
    parameters: list[ProviderParameter]
    secrets: list[ProviderSecret]


class ProviderFilter(Body):
    """The query of the list of provider profiles."""

    q: str = Field(default="", description="Words that name, title, category or aliases contain, in any case.")


class Providers(Body):
    """The provider profiles."""

    items: list[Provider]


@partial(Route, "GET", "/kinds", "listKinds", permission="viewer", query=KindFilter, response=Kinds, needs_store=False)
async def kinds(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the kinds of credentials, each with the name of its schema."""
    return await service.run(_kinds, request.query.q)


@partial(
    Route,
    "GET",
    "/providers",
    "listProviders",
    permission="viewer",
    query=ProviderFilter,
    response=Providers,
    needs_store=False,
)
async def providers(service: ApiServices, request: ApiRequest) -> ApiResult:
    """List the provider profiles that a stored integration can use, with their parameters and secrets."""
    return await service.run(_providers, request.query.q)


def _kinds(q: str) -> ApiResult:
    items = [kind for kind in _all_kinds() if contains_words(q, (*_WORDS_FOR_EVERY_KIND, *_kind_texts(kind)))]
    return ApiResult.of_public(Kinds(items=items))


def _kind_texts(kind: Kind) -> tuple[str, ...]:
    return (kind.kind, kind.title, kind.summary, *kind.aliases)


@cache
def _all_kinds() -> tuple[Kind, ...]:
    return tuple(
        Kind(
            kind=name,
            title=kind.title,
            summary=kind.summary,
            aliases=list(kind.aliases),
            description=getdoc(kind) or "",
            needs_endpoint_prefix=kind.needs_prefix,
            brings_certificate=kind.brings_certificate,
            providers=list(profiles.stored_provider_names_of(name)),
            component=kind.__name__,
        )
        for name, kind in KINDS.items()
    )


def _providers(q: str) -> ApiResult:
    items = [
        provider
        for provider in _all_providers()
        if contains_words(q, _provider_search_texts(provider)) and not profiles.profile(provider.provider).only_in_files
    ]
    return ApiResult.of_public(Providers(items=items))


def _provider_search_texts(provider: Provider) -> tuple[str, ...]:
    return (*_provider_texts(provider), provider.category, _CATEGORY_WORDS.get(provider.category, ""))


def _provider_texts(provider: Provider) -> tuple[str, ...]:
    return (provider.provider, provider.title, *provider.aliases)


@cache
def search_text_by_name() -> Mapping[str, str]:
    """Return the searchable text of each kind and provider, by name."""
    texts_by_name = {kind.kind: _kind_texts(kind) for kind in _all_kinds()}
    texts_by_name |= {provider.provider: _provider_texts(provider) for provider in _all_providers()}
    return {name: "\n".join(texts) for name, texts in texts_by_name.items()}


@cache
def _all_providers() -> tuple[Provider, ...]:
    return tuple(_provider(name, profiles.profile(name)) for name in profiles.provider_names())


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
        parameters=[_parameter(key, parameter, profile) for key, parameter in profile.parameters.items()],
        secrets=[ProviderSecret(name=key, description=text) for key, text in profile.secrets.items()],
    )


def _parameter(name: str, parameter: profiles.Parameter, profile: profiles.Profile) -> ProviderParameter:
    members: dict[str, Any] = {
        key: getattr(parameter, key) for key in ("description", "rule", "pattern", "example", "type")
    }
    required = parameter.required and parameter.default is None and not parameter.defaults
    return ProviderParameter(name=name, **members, required=required, suggestions=profile.suggestions(name))


ROUTES: Final = (kinds, providers)
