"""Fixed values: API keys, bearer tokens and tenant names in headers, query parameters or body fields of any name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from sidekey.credentials.base import Credential, CredentialTraits, Findings, FixedCredential, KindSettings, Provider
from sidekey.credentials.destination import SAFE_TO_CHANGE, ComparedAs
from sidekey.credentials.fields import Keys, mapping
from sidekey.credentials.header_values import canonicalize_headers
from sidekey.credentials.injection import Body, Headers, InjectedSettings, Query


class HeadersSettings(InjectedSettings, KindSettings):
    """Headers, query parameters and body fields with fixed values, public or secret."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 2})

    title: ClassVar[str] = "Custom headers"
    summary: ClassVar[str] = "A bearer token or an API key"
    aliases: ClassVar[tuple[str, ...]] = (
        "bearer",
        "API key",
        "API token",
        "access token",
        "HTTP header",
        "query parameter",
        "X-API-Key",
    )
    mistaken_types: ClassVar[frozenset[str]] = frozenset({"api_key", "apikey", "bearer", "header", "query", "token"})
    brings_added: ClassVar[bool] = True
    template_keys: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"headers": {"Authorization": {"prefix": "Bearer ", "secret": {"value": ""}}}}
    )

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({"headers": {"X-Provider": "unknown"}})

    type: Literal["headers"] = Field(description="The kind: headers, query parameters or body fields.")
    provider: Provider = None
    headers: Annotated[Headers, ComparedAs(canonicalize_headers)] = Field(default={})
    query: Annotated[Query, SAFE_TO_CHANGE] = Field(default={})
    body: Annotated[Body, SAFE_TO_CHANGE] = Field(default={})

    @classmethod
    def find_errors(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield an error if there is no value, or a parameter in both query and body."""
        yield from cls.find_errors_in(mapping(integration.get(cls.SECTION)))

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """Yield a warning for each secret that is written as public text."""
        yield from cls.find_public_secrets(mapping(integration.get(cls.SECTION)))

    def traits(self) -> CredentialTraits:
        """Return the configured injection points."""
        return CredentialTraits(self.injection_points())

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """Build a fixed grant with the values in the order of the document."""
        return FixedCredential(self.grant(values))
