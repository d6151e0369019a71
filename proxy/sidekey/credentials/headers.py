"""Fixed headers: API keys, bearer tokens and tenant names in headers of any name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from sidekey.credentials.base import (
    Credential,
    Documentation,
    Findings,
    FixedCredential,
    Grant,
    KindSettings,
    Places,
    Provider,
    SecretInput,
    Traits,
)
from sidekey.credentials.destination import CountsAs
from sidekey.credentials.fields import HeaderName, Keys, mapping, normal_name
from sidekey.credentials.header_values import (
    HeaderValue,
    check_public,
    check_unique,
    deciding,
    filled_headers,
    inputs_of,
)

_PROFILE_EXAMPLE = """\
mails:
  auth: {type: headers, provider: klaviyo, key: {file: /run/secrets/klaviyo}}
"""
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class HeadersSettings(KindSettings):
    """Headers with fixed values, public or secret."""

    title: ClassVar[str] = "Headers"
    form_help: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"headers": "A secret may have a public word before it, such as `Bearer ` in `Authorization`, with its space."}
    )

    placeholder_profile: ClassVar[Mapping[str, Any]] = MappingProxyType({"headers": {"X-Provider": "unknown"}})
    documentation: ClassVar[Documentation] = Documentation(
        "[Provider profiles](providers.md) bring all but the key for the platforms they are made for.",
        profile_example=_PROFILE_EXAMPLE,
    )

    type: Literal["headers"] = Field(description="The kind: headers with fixed values.")
    provider: Provider = None
    headers: Annotated[
        dict[HeaderName, HeaderValue], AfterValidator(check_unique), AfterValidator(check_public), CountsAs(deciding)
    ] = Field(
        min_length=1,
        description="Header names to values: a public text, or `{prefix: TEXT, secret: REFERENCE}`.",
    )

    @classmethod
    def find_warnings(cls, integration: Mapping[str, Any]) -> Findings:
        """A secret that is written in the file as public text."""
        for name, value in mapping(mapping(integration.get("auth")).get("headers")).items():
            if isinstance(value, str) and normal_name(name) in _SECRET_HEADERS:
                text = "this is public text: write a secret as {prefix: TEXT, secret: ...}"
                yield ("auth", "headers", name), text

    def traits(self) -> Traits:
        """The headers of the file."""
        return Traits(Places(headers=tuple(self.headers)))

    def inputs(self) -> Iterator[SecretInput]:
        """Each header's public text, or its prefix and secret."""
        yield from inputs_of(self.headers, "headers")

    def credential(self, values: Mapping[Keys, str]) -> Credential:
        """The headers in the order of the file, each value's prefix and secret joined."""
        headers = filled_headers(self.headers, values, "headers")
        secret = (values["headers", name, "secret"] for name, value in self.headers.items() if value.secret is not None)
        return FixedCredential(Grant(headers=headers, secrets=tuple(text.encode() for text in secret)))
