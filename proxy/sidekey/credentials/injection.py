"""Values that an integration writes itself, public or secret, and their places: headers, query and body."""

from __future__ import annotations

import math
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
from sidekey.credentials.fields import NAMES, HeaderName, Keys, ParameterName, is_parameter_name, mapping, normal_name
from sidekey.credentials.header_values import (
    HeaderValue,
    WrittenValue,
    check_public,
    check_unique,
    filled_headers,
    inputs_of,
    shape,
    written_schema,
)
from sidekey.policy.parameters import Names

MAPS: Final = ("headers", "query", "body")
"""The keys of the maps, which are the places."""

_SECRET_NAMES = frozenset({"access-token", "api-key", "apikey", "authorization", "cookie", "x-api-key"})


def _field_shape(raw: Any, info: ValidationInfo) -> Any:
    """`shape` of the field of a body, which may be a number, true or false as well."""
    if isinstance(raw, bool | int) or (isinstance(raw, float) and math.isfinite(raw)):
        return {"scalar": raw}
    return shape(raw, info)


class WrittenField(WrittenValue):
    """The value of a field of a body, which may be a `scalar` that is no text."""

    scalar: int | float | bool | None = None


ParameterValue = Annotated[WrittenValue, BeforeValidator(shape), written_schema("ParameterValue")]
FieldValue = Annotated[
    WrittenField, BeforeValidator(_field_shape), written_schema("FieldValue", {"type": "number"}, {"type": "boolean"})
]


SAME_PARAMETER: Final = "{} and {} are the same parameter to some servers (case does not count, . and _ are one)"


def _check_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    names = Names()
    for name in parameters:
        other = names.find(name)
        if other is not None:
            raise ValueError(f"{SAME_PARAMETER.format(other, name)}: remove one")
        names.add(name)
    return parameters


Headers = Annotated[
    dict[HeaderName, HeaderValue],
    AfterValidator(check_unique),
    AfterValidator(check_public),
    NAMES,
    Field(
        min_length=1,
        description="The values by header name: a public text, or `{prefix: TEXT, secret: REFERENCE}`.",
    ),
]
Query = Annotated[
    dict[ParameterName, ParameterValue],
    AfterValidator(_check_parameters),
    NAMES,
    Field(
        min_length=1,
        description="The values by parameter name, written like those of headers. Servers log queries: prefer a "
        "header if the API accepts both.",
    ),
]
Body = Annotated[
    dict[ParameterName, FieldValue],
    AfterValidator(_check_parameters),
    NAMES,
    Field(
        min_length=1,
        description="The values by field name, written like those of headers, or a number, `true` or `false`. The "
        "body must be a form or a JSON object of at most `limits.replay_body`, otherwise the response is "
        "415 `body_unsupported`.",
    ),
]


class InjectedSettings(PartSettings):
    """Values with fixed places, at least one."""

    headers: Headers = Field(default={})
    query: Query = Field(default={})
    body: Body = Field(default={})

    @classmethod
    def find_errors_in(cls, raw: Mapping[str, Any]) -> Findings:
        """No place at all, and one parameter in two, by the plain values of the part."""
        if not any(key in raw for key in MAPS):
            yield (cls.SECTION,), "needs headers, query or body: names to values"
        query, body = (
            [name for name in mapping(raw.get(key)) if is_parameter_name(name)] if NAMES.admits(raw.get(key)) else []
            for key in ("query", "body")
        )
        names = Names(query)
        for name in body:
            other = names.find(name)
            if other is not None:
                said = SAME_PARAMETER.format(f"{other} of the query", f"{name} of the body")
                yield (cls.SECTION, "body", name), f"{said}: remove one"

    @classmethod
    def find_public(cls, raw: Mapping[str, Any]) -> Findings:
        """Secrets that are written as public text, by the names that carry secrets."""
        for key in MAPS:
            for name, value in mapping(raw.get(key)).items():
                if isinstance(value, str) and normal_name(name) in _SECRET_NAMES:
                    yield (cls.SECTION, key, name), "this is public text: write a secret as {prefix: TEXT, secret: ...}"

    def places(self) -> InjectionPoints:
        """Every name, in its spelling."""
        return InjectionPoints(tuple(self.headers), tuple(self.query), tuple(self.body))

    def public_headers(self) -> Pairs:
        """Texts of the document itself; but not by names that carry secrets, as one may be written there by mistake."""
        return tuple(
            (name, value.text.value)
            for name, value in self.headers.items()
            if value.text is not None and value.text.source == "text" and normal_name(name) not in _SECRET_NAMES
        )

    def inputs(self) -> Iterator[SecretInput]:
        """Each value's public text, or its prefix and secret."""
        yield from inputs_of(self.headers, "headers")
        for place, parameters in (("query", self.query), ("body", self.body)):
            for name, value in parameters.items():
                for key, reference in value.inputs(place, name):
                    yield SecretInput(key, reference)

    def grant(self, values: Mapping[Keys, str]) -> Grant:
        """The values in the order of the file, each one's prefix and secret joined."""
        every: list[tuple[str, Mapping[str, WrittenValue]]]
        every = [("headers", self.headers), ("query", self.query), ("body", self.body)]
        secrets = [
            values[place, name, "secret"]
            for place, written in every
            for name, value in written.items()
            if value.secret is not None
        ]
        return Grant(
            headers=filled_headers(self.headers, values, "headers"),
            query=tuple((name, value.joined(values, "query", name)) for name, value in self.query.items()),
            body=tuple(
                (name, value.joined(values, "body", name) if value.scalar is None else value.scalar)
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
        """Secrets that are written as public text."""
        yield from cls.find_public(raw)

    def supplement(self, values: Mapping[Keys, str]) -> Grant:
        """The values in the order of the file."""
        return self.grant(values)
