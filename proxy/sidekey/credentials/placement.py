"""Placement of a token in a request (RFC 6750 2.1 to 2.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, field_validator
from pydantic_core.core_schema import ValidationInfo

from sidekey.credentials.base import Findings, Grant, InjectionPoints
from sidekey.credentials.destination import Json
from sidekey.credentials.fields import (
    DocumentType,
    Section,
    check_header_name,
    check_parameter_name,
    check_prefix,
    clean,
    encode_header_value,
    mapping,
    normal_name,
)

RequestPart = Literal["header", "body", "query"]

_SCHEME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Placement:
    """The location of a token: a header, with a `prefix` before the token, a query parameter or a body field."""

    part: RequestPart = "header"
    name: str = "Authorization"
    prefix: str = "Bearer "

    @property
    def requires_bearer(self) -> bool:
        """Return True if the token must be a bearer token (RFC 6750). Another prefix means another token type."""
        return self.part != "header" or self.prefix.lower() == "bearer "

    def injection_points(self) -> InjectionPoints:
        """Return the name in its part of the request."""
        names = (self.name,)
        if self.part == "header":
            return InjectionPoints(headers=names)
        return InjectionPoints(query=names) if self.part == "query" else InjectionPoints(body=names)

    def canonical(self) -> list[Json]:
        """Return part, name and prefix in canonical form. Names and schemes ignore case (RFC 9110 5.1, 11.1).

        A prefix that is a scheme is equal to that scheme. Any other prefix becomes a mapping, which equals no scheme.
        """
        if self.part != "header":
            return [self.part, self.name, ""]
        scheme = self.prefix.removesuffix(" ")
        is_scheme = not self.prefix or (scheme != self.prefix and _SCHEME.fullmatch(scheme))
        return [self.part, normal_name(self.name), scheme.lower() if is_scheme else {"prefix": self.prefix}]

    def build_grant(self, token: str, base_url: str | None = None) -> Grant:
        """Build the grant for a token."""
        pair = ((self.name, f"{encode_header_value(self.prefix)}{token}" if self.part == "header" else token),)
        secrets = (token.encode("latin-1"),)
        if self.part == "header":
            return Grant(headers=pair, base_url=base_url, secrets=secrets)
        if self.part == "query":
            return Grant(query=pair, base_url=base_url, secrets=secrets)
        return Grant(body=pair, base_url=base_url, secrets=secrets)


class PlacementSettings(Section):
    """The keys of a placement that is written as a mapping."""

    part: RequestPart = Field(alias="in")
    name: str | None = None
    scheme: str | None = None
    prefix: str | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None or "part" not in info.data:
            return name
        return check_header_name(name) if info.data["part"] == "header" else check_parameter_name(name)

    @field_validator("scheme")
    @classmethod
    def _check_scheme(cls, scheme: str | None, info: ValidationInfo) -> str | None:
        if scheme is None:
            return scheme
        if info.data.get("part", "header") != "header":
            raise ValueError("may be used only with in: header")
        if scheme and not _SCHEME.fullmatch(scheme):
            raise ValueError('must be one word, such as Bearer, or "" for none (RFC 9110 11.1)')
        return scheme

    @field_validator("prefix")
    @classmethod
    def _check_prefix(cls, prefix: str | None, info: ValidationInfo) -> str | None:
        if prefix is None:
            return prefix
        if info.data.get("part", "header") != "header":
            raise ValueError("may be used only with in: header")
        if info.data.get("scheme") is not None:
            raise ValueError("may not be used with scheme, which is the same with a space after it: remove one")
        if not prefix:
            raise ValueError('must not be empty: write scheme: "" for a token with nothing before it')
        check_prefix(prefix)
        if clean(prefix) != prefix:
            raise ValueError("must not contain a control character")
        return prefix

    def placement(self) -> Placement:
        """Build the placement with the defaults of RFC 6750."""
        if self.part != "header":
            return Placement(self.part, self.name or "access_token", "")
        scheme = "Bearer" if self.scheme is None else self.scheme
        prefix = self.prefix or (f"{scheme} " if scheme else "")
        return Placement("header", self.name or "Authorization", prefix)


def parse_placement(raw: object) -> Placement:
    """Parse a placement. Raises ValueError (pydantic's for a wrong key of a mapping)."""
    if isinstance(raw, Placement):
        return raw
    if raw not in ("header", "body", "query") and not isinstance(raw, dict):
        raise ValueError("must be header, body, query, or {in: header, name: Authorization, scheme: Bearer}")
    return PlacementSettings.model_validate(raw if isinstance(raw, dict) else {"in": raw}).placement()


def placement_warnings(integration: Mapping[str, Any], key: str) -> Findings:
    """Yield warnings about the placement at `key` of `auth`, from the document's plain values."""
    placement = mapping(integration.get("auth")).get(key)
    part = mapping(placement).get("in", placement)
    if part == "query":
        yield ("auth", key), "a token in the query appears in the logs of servers (RFC 6750 2.3)"
    if part == "body" and integration.get("test") is not None:
        yield ("test",), "the test request has an empty body, into which no token can be put: the test fails"


_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"enum": ["header", "body", "query"]},
        {
            "type": "object",
            "properties": {
                "in": {"enum": ["header", "body", "query"], "description": "The part of the request."},
                "name": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The name of the header, parameter or field; default: `Authorization` or "
                    "`access_token`.",
                },
                "scheme": {
                    "type": "string",
                    "description": 'The word before the token in a header; default: `Bearer`. `""`: no word.',
                },
                "prefix": {
                    "type": "string",
                    "minLength": 1,
                    "description": "Instead of `scheme`: any text before the token in a header, such as "
                    "`Token token=`.",
                },
            },
            "required": ["in"],
            "not": {"required": ["scheme", "prefix"]},
            "additionalProperties": False,
        },
    ]
}
TokenPlacement = Annotated[
    Placement,
    DocumentType(PlacementSettings),
    PlainValidator(parse_placement),
    PlainSerializer(lambda placement: placement.part, return_type=str),
    WithJsonSchema(_SCHEMA),
]
