"""Fixed values, public or secret, that an integration injects into headers, query and body."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo

from sidekey.credentials.base import (
    Findings,
    Grant,
    InjectionPoints,
    Pairs,
    PartSettings,
    SecretInput,
    SupplementSettings,
)
from sidekey.credentials.fields import (
    HTTP_TOKEN,
    MAX_NAMES,
    HeaderName,
    Keys,
    ParameterName,
    is_parameter_name,
    mapping,
    normal_name,
)
from sidekey.credentials.header_values import (
    ConfiguredValue,
    HeaderValue,
    build_headers,
    check_names,
    inputs_of,
    normalize_value,
    value_schema,
)
from sidekey.policy.parameters import ParameterNames

SECTIONS: Final = ("headers", "query", "body")
"""The keys of the values' mappings, for each part of a request."""

_CREDENTIALS: Final = re.compile(rf"{HTTP_TOKEN.pattern} +(.+)")
"""A scheme, such as `Bearer`, and a token after it (RFC 9110 11.4)."""

_SECRET_NAMES = frozenset({"access-token", "api-key", "apikey", "authorization", "cookie", "x-api-key"})


def _normalize_field(raw: Any, info: ValidationInfo) -> Any:
    """Convert a number or boolean to `{scalar: raw}`, and normalize every other value."""
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return {"scalar": raw}
    return normalize_value(raw, info)


class ConfiguredField(ConfiguredValue):
    """The value of a body field, which may also be a number or boolean (`scalar`)."""

    scalar: int | float | bool | None = None


ParameterValue = Annotated[ConfiguredValue, BeforeValidator(normalize_value), value_schema("ParameterValue")]
FieldValue = Annotated[
    ConfiguredField,
    BeforeValidator(_normalize_field),
    value_schema("FieldValue", {"type": "number"}, {"type": "boolean"}),
]


SAME_PARAMETER: Final = "{} and {} are the same parameter to some servers (case does not count, . and _ are one)"


def _check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    names = ParameterNames()
    for name in parameters:
        other = names.find(name)
        if other is not None:
            raise ValueError(f"{SAME_PARAMETER.format(other, name)}: remove one")
        names.add(name)
    return parameters


Headers = Annotated[
    dict[HeaderName, HeaderValue],
    AfterValidator(check_names),
    MAX_NAMES,
    Field(
        min_length=1,
        description="The values by header name: a public text, or `{prefix: TEXT, secret: REFERENCE}`.",
    ),
]
Query = Annotated[
    dict[ParameterName, ParameterValue],
    AfterValidator(_check_parameters),
    MAX_NAMES,
    Field(
        min_length=1,
        description="The values by parameter name, written like those of headers. Servers log queries: prefer a "
        "header if the API accepts both.",
    ),
]
Body = Annotated[
    dict[ParameterName, FieldValue],
    AfterValidator(_check_parameters),
    MAX_NAMES,
    Field(
        min_length=1,
        description="The values by field name, written like those of headers, or a number, `true` or `false`. The "
        "body must be a form or a JSON object of at most `limits.replay_body`, otherwise the response is "
        "415 `body_unsupported`.",
    ),
]


def _parts_to_redact(section: str, secret: str) -> Iterator[str]:
    """Yield the secret, and the part after an authentication scheme in it, which an upstream may repeat alone."""
    yield secret
    if section == "headers" and (credentials := _CREDENTIALS.fullmatch(secret)) is not None:
        yield credentials[1]


class InjectedSettings(PartSettings):
    """At least one fixed value in headers, query or body."""

    headers: Headers = Field(default={})
    query: Query = Field(default={})
    body: Body = Field(default={})

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield an error if nothing is injected, and for each parameter in both query and body."""
        if not any(key in raw for key in SECTIONS):
            yield (cls.SECTION,), "needs headers, query or body: names to values"
        query, body = (
            [name for name in mapping(raw.get(key)) if is_parameter_name(name)]
            if MAX_NAMES.admits(raw.get(key))
            else []
            for key in ("query", "body")
        )
        names = ParameterNames(query)
        for name in body:
            other = names.find(name)
            if other is not None:
                conflict = SAME_PARAMETER.format(f"{other} of the query", f"{name} of the body")
                yield (cls.SECTION, "body", name), f"{conflict}: remove one"

    @classmethod
    def find_public_secrets(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield a warning for each public text under a name that usually carries a secret."""
        for key in SECTIONS:
            for name, value in mapping(raw.get(key)).items():
                if isinstance(value, str) and normal_name(name) in _SECRET_NAMES:
                    yield (cls.SECTION, key, name), "this is public text: write a secret as {prefix: TEXT, secret: ...}"

    def injection_points(self) -> InjectionPoints:
        """Return every name that the config sets."""
        return InjectionPoints(tuple(self.headers), tuple(self.query), tuple(self.body))

    def public_headers(self) -> Pairs:
        """Return the headers with a public text, except under names that usually carry a secret."""
        return tuple(
            (name, value.text.value)
            for name, value in self.headers.items()
            if value.text is not None and not value.text.is_secret and normal_name(name) not in _SECRET_NAMES
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Yield each value's public text, or its prefix and secret."""
        yield from inputs_of(self.headers, "headers")
        for section, parameters in (("query", self.query), ("body", self.body)):
            for name, value in parameters.items():
                for key, reference in value.inputs(section, name):
                    yield SecretInput(key, reference)

    def grant(self, values: Mapping[Keys, str]) -> Grant:
        """Build the grant, with the values in the order of the document."""
        sections: list[tuple[str, Mapping[str, ConfiguredValue]]]
        sections = [("headers", self.headers), ("query", self.query), ("body", self.body)]
        secrets = [
            secret
            for section, entries in sections
            for name, value in entries.items()
            for key, reference in value.inputs(section, name)
            if reference.is_secret
            for secret in _parts_to_redact(section, values[key])
        ]
        return Grant(
            headers=build_headers(self.headers, values, "headers"),
            query=tuple((name, value.join(values, "query", name)) for name, value in self.query.items()),
            body=tuple(
                (name, value.join(values, "body", name) if value.scalar is None else value.scalar)
                for name, value in self.body.items()
            ),
            secrets=tuple(text.encode() for text in secrets),
        )


class AddedSettings(InjectedSettings, SupplementSettings):
    """Headers, query parameters and body fields that Sidekey adds to each request, besides the credential."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    SECTION: ClassVar[str] = "add"

    @classmethod
    def find_warnings_in(cls, raw: Mapping[str, Any]) -> Findings:
        """Yield a warning for each secret that is written as public text."""
        yield from cls.find_public_secrets(raw)

    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """Build the supplement, with the values in the order of the document."""
        return self.grant(values)
